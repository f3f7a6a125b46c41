"""Logits, whatever a model returns them in, and clear words for what holds none."""

from collections import OrderedDict, namedtuple

import pytest
import torch
from torch import nn

from cardgen.errors import CardgenError
from cardgen.forward import all_finite, logits

SCORES = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
IMAGES = torch.zeros(2, 1, 4, 4)
WRAP = "wrap the model in a module whose forward returns only these"


class Returns(nn.Module):
    def __init__(self, output) -> None:
        super().__init__()
        self.output = output

    def forward(self, x):
        return self.output


class Ordered(OrderedDict):
    """Entries that are attributes too, as transformers returns them."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@pytest.mark.parametrize(
    "output",
    [
        SCORES,
        SCORES.double(),
        {"logits": SCORES, "features": torch.zeros(2, 9)},
        {"out": SCORES},
        {
            "out": SCORES,
            "loss": torch.zeros(()),
            "maps": torch.zeros(2, 3, 4, 4),
            "one": torch.zeros(1, 3),
            "name": "x",
        },
        Ordered(loss=torch.zeros(()), logits=SCORES),
        namedtuple("Output", ["logits", "aux"])(SCORES, None),
    ],
)
def test_where_logits_are_found(output) -> None:
    found = logits(Returns(output), IMAGES)
    assert torch.equal(found, SCORES)
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (torch.zeros(2), "(2,)"),
        (torch.zeros(3, 3), "(3, 3)"),
        (torch.zeros(2, 3, 1), "(2, 3, 1)"),
        (None, "NoneType"),
        ((SCORES, torch.zeros(2, 9)), "a tuple of (2, 3), (2, 9)"),
        ([SCORES], "a list of (2, 3)"),
        ({"a": SCORES, "b": SCORES}, "a dict of a (2, 3), b (2, 3)"),
        ({"a": torch.zeros(2, 1, 1), "b": (SCORES, None)}, "a dict of a (2, 1, 1), b a tuple of (2, 3), NoneType"),
        ({"logits": torch.zeros(2), "b": SCORES}, "a dict of logits (2,), b (2, 3)"),
    ],
)
def test_what_holds_no_logits(output, found) -> None:
    with pytest.raises(CardgenError) as caught:
        logits(Returns(output), IMAGES)
    assert str(caught.value) == f"the model returned {found}; expected logits of shape (2, classes); {WRAP}"


class Two(nn.Module):
    def forward(self, image, text, *, mask, scale=1.0):
        return image


class Wrong(nn.Module):
    def forward(self, image):
        return image + None


def test_more_than_one_input() -> None:
    with pytest.raises(CardgenError) as caught:
        logits(Two(), IMAGES)
    assert str(caught.value) == (
        "the model's forward needs image, text, mask; expected one input, the images; wrap the model in a module that fills in the others"
    )


class InPlace(nn.Module):
    def forward(self, image):
        return image.mul_(0.5).flatten(1)


@pytest.mark.parametrize("images", [torch.ones(4, 1, 2, 2), torch.ones(8, 1, 2, 2)[2:6]])
def test_a_model_that_writes_into_its_inputs(images) -> None:
    with torch.no_grad(), pytest.raises(CardgenError) as caught:
        logits(InPlace(), images)
    assert str(caught.value) == (
        "the model writes into its inputs, so that whoever asks next would ask of others; expected inputs left as they are; begin the "
        "model's forward with inputs = inputs.clone()"
    )


def test_a_model_that_writes_into_a_copy() -> None:
    images = torch.ones(4, 1, 2, 2)
    assert logits(
        nn.Sequential(nn.Identity(), nn.Flatten(), nn.BatchNorm1d(4).eval(), nn.ReLU(inplace=True)), images
    ).shape == (4, 4)
    assert torch.equal(images, torch.ones(4, 1, 2, 2))


def test_inputs_made_in_inference_mode() -> None:
    with torch.inference_mode():
        assert logits(nn.Flatten(), torch.ones(4, 1, 2, 2)).shape == (4, 4)


def test_other_type_errors_are_the_models_own() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        logits(Wrong(), IMAGES)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_number_that_is_none_is_seen_among_all(value, dtype):
    values = torch.full((3, 5, 7), torch.finfo(dtype).max, dtype=dtype)
    assert all_finite(values)
    assert all_finite(-values)
    for at in ((0, 0, 0), (1, 2, 3), (2, 4, 6)):
        broken = values.clone()
        broken[at] = value
        assert not all_finite(broken)
        assert not all_finite(broken.transpose(0, 2))


def test_no_number_at_all_is_finite():
    assert all_finite(torch.zeros(0, 3))
