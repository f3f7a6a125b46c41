"""Data randomisation against its slow reference, by hand, and on maps that know nothing of the model."""

import numpy as np
import pytest
import torch
from reference import maps as reference_maps
from reference import randomisation, siblings
from small_methods import made_method, study_of
from small_models import (
    Linear,
    Small,
    Tiny,
    again,
    every_batch_and_order,
    seeded,
    siblings_of,
    small_subject,
    untouched,
)

from cardgen import measure
from cardgen.api import named
from cardgen.errors import CardgenError
from cardgen.metrics import METRICS
from cardgen.thresholds import DEFAULTS
from cardgen.verdicts import RULES

KEY = "data_randomization"


def other_of(small):
    return siblings_of(small.model)["random-labels"]


def found(small, method="input_x_gradient", other=None, **options):
    return measure(KEY, *small.call, method=method, siblings={"random-labels": other or other_of(small)}, **options)


def pairs(small, make=siblings.signed):
    """Each sample's map from both models, for the class explained."""
    targets = [int(t) for t in small.targets]
    return [
        [make(model, x, t) for model in (small.model, other_of(small))]
        for x, t in zip(small.inputs, targets, strict=True)
    ]


def test_agrees_with_the_reference(tiny):
    scores, maps = found(tiny), pairs(tiny)
    expected = [siblings.magnitudes(a, b) for a, b in maps]
    np.testing.assert_allclose(scores.values, expected, rtol=0, atol=1e-4)
    assert scores.parts["similarity"].shape == (1, 7)
    np.testing.assert_array_equal(scores.parts["similarity"][0], scores.values)
    assert scores.reported["mean_spearman"] == pytest.approx(
        np.mean([reference_maps.spearman(a, b) for a, b in maps]), abs=1e-4
    )
    assert scores.reported["mean_ssim"] == pytest.approx(np.mean([siblings.ssim(a, b) for a, b in maps]), abs=1e-4)
    assert "mean_spearman_abs" not in scores.reported
    between = [siblings.magnitudes(maps[i][0], maps[i - 1][0]) for i in range(7)]
    assert scores.reported["between_images"] == pytest.approx(np.mean(between), abs=1e-4)


def test_self_similarity_is_of_magnitudes_too(tiny):
    """A method whose seed decides the sign of its map: its magnitudes stay, the map itself does not."""

    def turned(model, inputs, targets, context):
        signs = torch.stack([torch.rand(1, 12, 10, generator=g) for g in context.generators("turned")]) < 0.5
        return inputs[:, :1] * (2.0 * signs - 1)

    study = study_of(tiny, made_method(turned))
    subject = study.subject
    subject.siblings.update(named(siblings_of(tiny.model)))
    scores = METRICS[KEY].measure(study, {})
    assert scores.parts["self"] == pytest.approx(np.ones(7))
    assert scores.values == pytest.approx(np.ones(7))
    assert METRICS["model_weight_randomization"].measure(study, {"reinitialisations": 1}).parts["self"].max() < 0.5


def test_by_hand():
    # Maps are the weights of the first class, 1 −2 3 −4 … and in the other model 2 1 4 3 …: all 16 magnitudes are a rank off, so
    # 1 − 6 · 16 / (16 · 255). Signs go other ways, so that the maps themselves agree less.
    ranks = torch.arange(1.0, 17)
    model = Linear(ranks * torch.tensor([1.0, -1.0] * 8))
    other = Linear(ranks.view(8, 2).flip(1).flatten())
    maps = made_method(lambda model, inputs, *_: model.head.weight[0].view(1, 1, 4, 4).repeat(len(inputs), 1, 1, 1))
    inputs = torch.rand(3, 1, 4, 4)
    small = Small(
        model, inputs, torch.zeros(3, dtype=torch.int64), torch.zeros(3, 4, 4, dtype=torch.bool), inputs[:, 0]
    )
    study = study_of(small, maps)
    study.subject.siblings.update(named({"random-labels": other}))
    scores = METRICS[KEY].measure(study, {})
    assert scores.values == pytest.approx(np.full(3, 1 - 96 / 4080))
    assert scores.reported["mean_spearman"] < 0.2


MUTATIONS = {
    "of the maps themselves": lambda small: [reference_maps.spearman(a, b) for a, b in pairs(small)],
    "the other model's own class": lambda small: [
        siblings.magnitudes(
            siblings.signed(small.model, x, int(t)),
            siblings.signed(other_of(small), x, siblings.predicted(other_of(small), x)),
        )
        for x, t in zip(small.inputs, small.targets, strict=True)
    ],
    "a model with random weights": lambda small: [
        siblings.magnitudes(siblings.signed(small.model, x, int(t)), siblings.signed(again(small.model, 99), x, int(t)))
        for x, t in zip(small.inputs, small.targets, strict=True)
    ],
    "of gradients": lambda small: [siblings.magnitudes(a, b) for a, b in pairs(small, randomisation.largest_gradient)],
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    assert np.abs(found(tiny).values - MUTATIONS[name](tiny)).max() > 0.01


def verdict(scores):
    return RULES["randomisation"](scores, {}, METRICS[KEY].entry, DEFAULTS, 0).verdict


def test_the_same_model_is_no_other(tiny):
    small = tiny.take(list(range(7)) * 3)
    scores = found(small, other=small.model)
    assert scores.values == pytest.approx(np.ones(21))
    assert verdict(scores) == "fail"


def test_a_model_that_sees_other_pixels_passes():
    """Weights of two models drawn apart: what their gradients have in common is chance."""
    small = small_subject(Linear(torch.randn(3, 12, 10, generator=torch.Generator().manual_seed(1))), 12, 10, 24)
    small = small._replace(targets=torch.zeros(24, dtype=torch.int64))
    scores = found(
        small, "vanilla_gradients", Linear(torch.randn(3, 12, 10, generator=torch.Generator().manual_seed(2)))
    )
    assert abs(scores.values).max() < 0.2
    assert verdict(scores) == "pass"


@pytest.mark.parametrize(
    "method", ["noise", "noise_7", "constant", "planted_truth", "edges", "keyed_noise", "fresh_noise"]
)
def test_maps_that_know_nothing_of_the_model_fail(tiny, method):
    small = tiny.take(list(range(7)) * 3)
    assert verdict(found(small, method, masks=small.masks)) == "fail"


def test_without_the_sibling_it_says_so(tiny):
    with pytest.raises(CardgenError) as caught:
        measure(KEY, *tiny.call, method="vanilla_gradients", siblings={"seed-1": tiny.model})
    assert str(caught.value).startswith(
        "needs the sibling model random-labels; expected it among the subject's siblings"
    )


def test_own_maps_cannot_be_made_again(tiny):
    with pytest.raises(CardgenError, match="pass method= instead"):
        measure(KEY, *tiny.call, maps=tiny.maps, siblings=siblings_of(tiny.model))


def test_a_network_of_another_layer_name_has_its_own_features(tiny):
    """Methods of class activation on a sibling take its last features where the model's layer is not there."""
    assert np.isfinite(found(tiny, "grad_cam", siblings_of(tiny.model)["architecture"]).values).all()


def test_any_batch_and_order(tiny):
    every_batch_and_order(lambda rows, batch: found(tiny.take(rows), batch=batch).values)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    other = seeded(3, Tiny).train()
    with untouched(tiny.model, tiny.inputs, tiny.targets), untouched(other):
        found(tiny, other=other)
