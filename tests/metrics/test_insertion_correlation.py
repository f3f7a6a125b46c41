"""Insertion correlation against its slow reference, by hand, and under wrong versions of itself."""

import numpy as np
import pytest
import torch
from reference import curves
from small_models import Linear, Share, every_batch_and_order, untouched

from cardgen import measure
from cardgen.errors import CardgenError

TOLERANCE = 1e-5  # a ratio of float32 differences
KEY = "insertion_correlation"


def expected(small, **options):
    return [
        curves.insertion_correlation(small.model, small.inputs[i], int(small.targets[i]), small.maps[i], **options)
        for i in range(7)
    ]


@pytest.mark.parametrize("steps", [2, 7, 16, 50, 120])
def test_agrees_with_the_reference(tiny, steps):
    found = measure(KEY, *tiny.call, maps=tiny.maps - 0.5, steps=steps)
    assert found.valid.all()
    np.testing.assert_allclose(found.values, expected(tiny, steps=steps), rtol=0, atol=TOLERANCE)


def test_by_hand():
    # f_0(x) = 0.4 a + 0.3 b + 0.2 c + 0.1 d, ones put into black:
    # map 4 3 2 1: rises .4 .3 .2 .1 against 4 3 2 1 → 1
    # map 1 2 3 4: d first, rises .1 .2 .3 .4 against 4 3 2 1 → −1
    # map 9 1 0 0.5: order a b d c, rises .4 .3 .1 .2 against 9 1 .5 0 → 1.325 / √(.05 · 54.6875) = .801285
    model, maps = Share([[[0.4, 0.3], [0.2, 0.1]]]), torch.tensor([[4.0, 3, 2, 1], [1, 2, 3, 4], [9, 1, 0, 0.5]])
    call = (model, torch.ones(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64))
    found = measure(KEY, *call, maps=maps.view(3, 2, 2), steps=4, substrate="black").values
    assert found == pytest.approx([1, -1, 0.801285], abs=1e-5)


def test_a_linear_model_s_own_contributions_score_one():
    """Where probability is linear, f_c rises by what each pixel contributes: those contributions are perfect, their reverse is worst."""
    weights = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(0)) / 36
    images, targets = torch.ones(2, 1, 6, 6), torch.zeros(2, dtype=torch.int64)
    maps = torch.stack([weights[0], -weights[0]])
    found = measure(KEY, Share(weights), images, targets, maps=maps, steps=36, substrate="black").values
    assert found == pytest.approx([1, -1], abs=1e-4)


MUTATIONS = {
    "drops for rises": lambda monkey: monkey.setattr(
        curves, "changes", lambda values, insert, right=curves.changes: right(values, not insert)
    ),
    "the next step's saliency": lambda monkey: monkey.setattr(
        curves, "step_means", lambda *a, right=curves.step_means: right(*a)[1:] + right(*a)[:1]
    ),
    "read backwards": lambda monkey: monkey.setattr(
        curves, "step_means", lambda *a, right=curves.step_means: right(*a)[::-1]
    ),
    "grey for the blur": lambda monkey: monkey.setattr(curves, "blur", lambda image: torch.full_like(image, 0.5)),
    "the logit": lambda monkey: monkey.setattr(curves, "probability", curves.logit),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    found = measure(KEY, *tiny.call, maps=tiny.maps, steps=12).values
    np.testing.assert_allclose(found, expected(tiny, steps=12), rtol=0, atol=TOLERANCE)
    MUTATIONS[name](monkeypatch)
    assert np.abs(found - expected(tiny, steps=12)).max() > 100 * TOLERANCE


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure(KEY, *some.call, maps=some.maps, batch=batch).values

    every_batch_and_order(score, tolerance=TOLERANCE)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
        measure(KEY, *tiny.call, maps=tiny.maps)


def test_neither_constant_maps_nor_models_that_never_answer_have_one(tiny):
    maps = tiny.maps.clone()
    maps[2] = -1.0
    found = measure(KEY, *tiny.call, maps=maps)
    assert found.valid.tolist() == [True, True, False, True, True, True, True]
    assert (found.flat == ~found.valid).all()
    still = measure(KEY, Linear(torch.zeros(360)), tiny.inputs, torch.zeros(7, dtype=torch.int64), maps=maps)
    assert still.flat.all()
    assert not still.valid.any()
    assert still.reported == {"still": 6}  # the constant map is counted as that


@pytest.mark.usefixtures("as_users_run")
def test_images_too_small_for_the_blur_are_refused(tiny):
    small = tiny._replace(inputs=tiny.inputs[..., :5], maps=tiny.maps[..., :5])
    model = Linear(torch.zeros(180))
    with pytest.raises(CardgenError) as error:
        measure(KEY, model, small.inputs, torch.zeros(7, dtype=torch.int64), maps=small.maps)
    assert str(error.value) == (
        "images of 12 × 5 pixels are too small to blur; expected sides of at least 6; choose another substrate or baseline"
    )
