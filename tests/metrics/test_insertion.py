"""Insertion against its slow reference, by hand, and under wrong versions of itself."""

import numpy as np
import pytest
import torch
from reference import curves
from small_models import Share, every_batch_and_order, untouched

from cardgen import measure
from cardgen.errors import CardgenError

TOLERANCE = 1e-6


def expected(small, **options):
    return [
        curves.insertion(small.model, small.inputs[i], int(small.targets[i]), small.maps[i], **options)
        for i in range(7)
    ]


@pytest.mark.parametrize("steps", [2, 50, 120])
def test_agrees_with_the_reference(tiny, steps):
    found = measure("insertion", *tiny.call, maps=tiny.maps, steps=steps).values
    np.testing.assert_allclose(found, expected(tiny, steps=steps), rtol=0, atol=TOLERANCE)


def test_by_hand():
    # f_0(x) = 0.4 a + 0.3 b + 0.2 c + 0.1 d, ones put into black, most salient first:
    # a b c d: 0, 0.4, 0.7, 0.9, 1 → (0 + 0.4 + 0.7 + 0.9 + 0.5)/4 = 0.625
    # d c b a: 0, 0.1, 0.3, 0.6, 1 → (0 + 0.1 + 0.3 + 0.6 + 0.5)/4 = 0.375
    model = Share([[[0.4, 0.3], [0.2, 0.1]]])
    images, maps = torch.ones(2, 1, 2, 2), torch.tensor([[[4.0, 3.0], [2.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]]])
    found = measure("insertion", model, images, torch.tensor([0, 0]), maps=maps, steps=4, substrate="black")
    assert found.values == pytest.approx([0.625, 0.375], abs=1e-6)
    assert found.curve.y == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=1e-6)


def test_the_blur_by_hand():
    # One light pixel in the middle of a 13 × 13 image: the blurred image is the Gaussian window itself, and its largest value is
    # the centre's weight, 1/(Σ_{d=−5…5} exp(−d²/50))² = 1/8.7185² (1 + 2·(.9802 + .9231 + .8353 + .7261 + .6065) = 9.1424;
    # 1/9.1424² = 0.011964).
    image = torch.zeros(1, 1, 13, 13)
    image[0, 0, 6, 6] = 1.0
    assert curves.blur(image[0])[0, 6, 6].item() == pytest.approx(0.011964, abs=2e-6)
    weights = torch.zeros(1, 13, 13)
    weights[0, 6, 6] = 1.0
    last = torch.zeros(1, 13, 13)
    last[0, 6, 6] = -1.0  # the light pixel is put back last of all
    found = measure("insertion", Share(weights), image, torch.tensor([0]), maps=last, steps=169)
    # 0.011964 up to the last of 169 steps, then 1: 0.011964 + (1 − 0.011964)/(2·169)
    assert found.values[0] == pytest.approx(0.011964 + 0.988036 / 338, abs=2e-6)


MUTATIONS = {
    "least salient first": lambda monkey: monkey.setattr(
        curves, "descending", lambda saliency, right=curves.descending: right(-saliency)
    ),
    "one pixel early": lambda monkey: monkey.setattr(
        curves, "counts", lambda pixels, steps, right=curves.counts: [min(c + 1, pixels) for c in right(pixels, steps)]
    ),
    "a window of another width": lambda monkey: monkey.setattr(
        curves, "blur", lambda image, right=curves.blur: right(image, sigma=4.0)
    ),
    "grey for the blur": lambda monkey: monkey.setattr(curves, "blur", lambda image: torch.full_like(image, 0.5)),
    "a plain mean for the trapezoid": lambda monkey: monkey.setattr(
        curves, "area", lambda values, shares: sum(values) / len(values)
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    found = measure("insertion", *tiny.call, maps=tiny.maps, steps=12).values
    np.testing.assert_allclose(found, expected(tiny, steps=12), rtol=0, atol=TOLERANCE)
    MUTATIONS[name](monkeypatch)
    assert np.abs(found - expected(tiny, steps=12)).max() > 30 * TOLERANCE


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure("insertion", *some.call, maps=some.maps, batch=batch).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
        measure("insertion", *tiny.call, maps=tiny.maps)


def test_insertion_is_deletion_of_the_other_order(tiny):
    # with one substrate for both, putting the top k back leaves what deleting the others from the bottom leaves
    inserted = measure("insertion", *tiny.call, maps=tiny.maps, substrate="mean").values
    deleted = measure("deletion", *tiny.call, maps=-tiny.maps, substrate="mean").values
    assert inserted == pytest.approx(deleted, abs=1e-6)


def test_images_too_small_for_the_blur_are_refused():
    with pytest.raises(CardgenError, match="blur"):
        measure(
            "insertion",
            Share(torch.full((1, 5, 5), 0.04)),
            torch.rand(1, 1, 5, 5),
            torch.tensor([0]),
            maps=torch.rand(1, 5, 5),
            steps=5,
        )
