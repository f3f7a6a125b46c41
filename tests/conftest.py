"""Shape checks on every function of cardgen, and the small subjects that most tests explain."""

from jaxtyping import install_import_hook

install_import_hook("cardgen", "beartype.beartype")

import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    """Tests share the machine; sums in one order also make failures repeatable."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny():
    """A random convolutional network with batch norm, and seven images of 12 × 10 pixels."""
    import small_models

    return small_models.tiny_subject()


@pytest.fixture
def as_users_run():
    """Without the shape checks of the tests, so that cardgen's own messages come through."""
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
