"""SmoothGrad against its slow reference; its noise against what it claims; its batches full."""

import pytest
import torch
from reference import methods as reference
from small_models import every_batch_and_order, untouched
from torch import nn

from cardgen import explain
from cardgen.draws import content_ids, generator
from cardgen.errors import CardgenError
from cardgen.space import Space

KEY = "smoothgrad"
SPACE = Space((-1.0,), (3.0,), (0.25,))


def noise(small, i, n_samples, sigma=0.15, seed=0):
    """σ times the draws of a sample, one after another from its own generator."""
    draws = generator(seed, KEY, 0, content_ids(small.inputs)[i])
    return [sigma * torch.randn(small.inputs.shape[1:], generator=draws) for _ in range(n_samples)]


def expected(small, i, drawn, target=None):
    return reference.smoothgrad(
        small.model, small.inputs[i], int(small.targets[i]) if target is None else target, drawn
    )


class Square(nn.Module):
    """s_0 = Σ x²/2, so the gradient is the noisy input itself."""

    def forward(self, x):
        score = (x**2).sum((1, 2, 3)) / 2
        return torch.stack([score, 0 * score], 1)


def drawn_noise(inputs, **options):
    """The noise that was added, from the gradient of Square."""
    targets = torch.zeros(len(inputs), dtype=torch.int64)
    return explain(KEY, Square(), inputs, targets, reduce=False, **options) - inputs


def test_agrees_with_the_reference(tiny):
    found, maps = explain(KEY, *tiny.call, reduce=False, n_samples=9), explain(KEY, *tiny.call, n_samples=9)
    for i in (0, 3):
        wanted = expected(tiny, i, noise(tiny, i, 9))
        torch.testing.assert_close(found[i].double(), wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(maps[i].double(), wanted.abs().amax(0), rtol=1e-4, atol=1e-5)


def test_the_noise_goes_with_the_range_of_the_space(tiny):
    found = explain(KEY, *tiny.call, reduce=False, n_samples=5, noise_level=0.1, space=SPACE)
    wanted = expected(tiny, 2, noise(tiny, 2, 5, 0.1 * 4))
    torch.testing.assert_close(found[2].double(), wanted, rtol=1e-4, atol=1e-5)


def test_each_channel_has_its_own_range():
    inputs = torch.zeros(1, 3, 60, 60)
    space = Space((-1.0, 0.0, -5.0), (1.0, 1.0, 5.0), (0.0, 0.5, 0.0))
    found = drawn_noise(inputs, n_samples=1, noise_level=0.2, space=space)[0]
    assert found.flatten(1).std(1).tolist() == pytest.approx([0.4, 0.2, 2.0], rel=0.05)
    assert found.flatten(1).mean(1).abs().max() < 0.1


def test_one_sample_without_noise_is_the_gradient(tiny):
    found = explain(KEY, *tiny.call, reduce=False, n_samples=1, noise_level=0.0)
    assert torch.equal(found, explain("vanilla_gradients", *tiny.call, reduce=False))


def test_the_mean_of_many_copies_of_a_straight_model_is_its_gradient(tiny):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(360, 4))
    found = explain(KEY, flat, tiny.inputs, tiny.targets, reduce=False, n_samples=3)
    torch.testing.assert_close(found, explain("vanilla_gradients", flat, tiny.inputs, tiny.targets, reduce=False))


class TestNoise:
    def test_the_first_draws_of_many_are_the_few(self, tiny):
        sums = [k * drawn_noise(tiny.inputs, n_samples=k) for k in (1, 2, 6)]
        for i in (0, 5):
            drawn = noise(tiny, i, 6)
            for total, k in zip(sums, (1, 2, 6), strict=True):
                torch.testing.assert_close(total[i], sum(drawn[:k]), rtol=1e-4, atol=1e-5)

    def test_each_sample_has_its_own_whatever_its_company(self, tiny):
        found = drawn_noise(tiny.inputs, n_samples=2)
        torch.testing.assert_close(drawn_noise(tiny.inputs[[4, 1]], n_samples=2, batch=3), found[[4, 1]])
        assert all(not torch.allclose(a, b, atol=0.1) for i, a in enumerate(found) for b in found[i + 1 :])
        assert not torch.allclose(drawn_noise(tiny.inputs, n_samples=2, seed=1), found, atol=0.1)

    def test_inputs_are_not_clamped(self):
        found = drawn_noise(torch.ones(1, 1, 30, 30), n_samples=1)
        assert 0.4 < (found > 0).float().mean() < 0.6

    def test_the_model_sees_full_batches(self, tiny):
        sizes = []
        handle = tiny.model.register_forward_hook(lambda _, __, out: sizes.append(len(out)))
        explain(KEY, *tiny.call, n_samples=5, batch=3)
        handle.remove()
        assert sizes == [3] * 5 + [3] * 5 + [3, 2]


MUTATIONS = {
    "of another class": lambda s, i, e: expected(s, i, e, (int(s.targets[i]) + 1) % 4),
    "squares": lambda s, i, e: sum(expected(s, i, [one]) ** 2 for one in e) / len(e),
    "magnitudes averaged": lambda s, i, e: sum(expected(s, i, [one]).abs() for one in e) / len(e),
    "one copy fewer": lambda s, i, e: expected(s, i, e[:-1]),
    "divided by one less": lambda s, i, e: expected(s, i, e) * len(e) / (len(e) - 1),
    "half the noise": lambda s, i, e: expected(s, i, [one / 2 for one in e]),
    "clamped": lambda s, i, e: expected(s, i, [(s.inputs[i] + one).clamp(0, 1) - s.inputs[i] for one in e]),
    "the noise of another": lambda s, i, e: expected(s, i, noise(s, i - 1, len(e))),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    found = explain(KEY, *tiny.call, reduce=False, n_samples=6)[3].double()
    assert (found - MUTATIONS[name](tiny, 3, noise(tiny, 3, 6))).abs().max() > 1e-3


def test_no_copies_are_refused(tiny):
    with pytest.raises(CardgenError) as caught:
        explain(KEY, *tiny.call, n_samples=0)
    assert str(caught.value) == "smoothgrad: n_samples is 0; expected at least 1; choose more"


def test_inputs_outside_their_space_are_refused(tiny):
    with pytest.raises(CardgenError, match=r"^inputs reach from"):
        explain(KEY, tiny.model, tiny.inputs * 255, tiny.targets)


def test_any_batch_and_order(tiny):
    every_batch_and_order(
        lambda rows, batch: explain(KEY, *tiny.take(rows).call, batch=batch, n_samples=5).numpy(), tolerance=1e-5
    )


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        explain(KEY, *tiny.call, n_samples=3)
