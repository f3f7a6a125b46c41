"""LIME against its slow reference, on models of which the weights are known, and by hand."""

import math

import pytest
import torch
from reference import superpixels as reference
from small_models import Share

from cardgen import explain
from cardgen.draws import content_ids, generator
from cardgen.errors import CardgenError
from cardgen.methods.lime import surrogate
from cardgen.segments import superpixels
from cardgen.space import UNNORMALISED

KEY = "lime"
SETTINGS = {"segments": 10, "features": 3, "n_perturbations": 40}


def cut(inputs, segments=SETTINGS["segments"]):
    return superpixels(inputs, UNNORMALISED, segments)


def drawn(small, i, n, labels):
    """A sample's variants: fair coins from its own generator, and the whole image before all."""
    rows = torch.rand(64, int(labels[i].max()) + 1, generator=generator(0, KEY, 0, content_ids(small.inputs)[i])) < 0.5
    rows[0] = True
    return rows[:n]


def expected(small, i, n=40, features=3, background=None, shift=0):
    labels = cut(small.inputs)
    image, target = small.inputs[i], (int(small.targets[i]) + shift) % 4
    background = torch.full_like(image, 0.5) if background is None else background
    return reference.lime(small.model, image, target, labels[i], drawn(small, i, n, labels), background, features)


@pytest.mark.parametrize("n", [24, 40])
@pytest.mark.parametrize("features", [1, 3, 99])
def test_agrees_with_the_reference(tiny, n, features):
    found = explain(KEY, *tiny.call, **SETTINGS | {"n_perturbations": n, "features": features})
    for i in (0, 3):
        wanted = expected(tiny, i, n, features)
        assert wanted.abs().amax() > 0.01
        torch.testing.assert_close(found[i].double(), wanted, rtol=1e-4, atol=1e-6)


def test_superpixels_in_their_own_colour(tiny):
    found = explain(KEY, *tiny.call, background="segment_mean", **SETTINGS)
    wanted = expected(tiny, 0, background=reference.mean_colours(tiny.inputs[0], cut(tiny.inputs)[0]))
    torch.testing.assert_close(found[0].double(), wanted, rtol=1e-4, atol=1e-6)


nearness = reference.nearness
MUTATIONS = {"without the root": lambda z: nearness(z) ** 2, "no kernel": lambda z: 1.0}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_kernel_would_be_seen(tiny, name, monkeypatch):
    monkeypatch.setattr(reference, "nearness", MUTATIONS[name])
    found = explain(KEY, *tiny.call, **SETTINGS | {"features": 99})
    assert (found[0] - expected(tiny, 0, features=99)).abs().max() > 1e-4


WRONG = {
    "of another class": {"shift": 1},
    "one feature less": {"features": 2},
    "on white": {"background": torch.ones(3, 12, 10)},
    "a variant less": {"n": 39},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_reference_would_be_seen(tiny, name):
    found = explain(KEY, *tiny.call, **SETTINGS)
    assert max((found[i] - expected(tiny, i, **WRONG[name])).abs().max() for i in (0, 3)) > 1e-4


def test_logits_in_place_of_probabilities_would_be_seen(tiny, monkeypatch):
    found = explain(KEY, *tiny.call, **SETTINGS)
    monkeypatch.setattr(reference.network, "probability", lambda *arguments: reference.logit(*arguments))
    assert (found[0] - expected(tiny, 0)).abs().max() > 1e-4


def test_a_model_linear_in_superpixels_gives_its_weights(tiny):
    # f_0(x) = Σ w·x, so present superpixels add Σ_{p ∈ j} w_p (x_p − ½) each
    weights = torch.rand(3, 12, 10, generator=torch.Generator().manual_seed(0)) / 360
    inputs, labels = tiny.inputs[:2], cut(tiny.inputs[:2])
    targets = torch.zeros(2, dtype=torch.int64)
    found = explain(KEY, Share(weights), inputs, targets, **SETTINGS | {"features": 99})
    for i in range(2):
        shares = (weights * (inputs[i] - 0.5)).sum(0)
        wanted = reference.painted(
            [float(shares[labels[i] == j].sum()) for j in range(int(labels[i].max()) + 1)], labels[i]
        )
        torch.testing.assert_close(found[i].double(), wanted, rtol=1e-3, atol=1e-6)


def test_by_hand():
    # One superpixel, f_0(x) = 0.6 x: 0.6 with it, 0.3 with grey in its place.
    model, image = Share([[[0.6]]]), torch.ones(1, 1, 1, 1)
    found = explain(KEY, model, image, torch.tensor([0]), n_perturbations=20)
    torch.testing.assert_close(found, torch.full((1, 1, 1), 0.3))


def test_two_that_work_together_by_hand():
    # All four variants of two superpixels once, f = 0.8, 0.5, 0.4, 0.3: of the interaction c = 0.8 − 0.5 − 0.4 + 0.3 = 0.2 each variant
    # is off by ±κ/π with κ = c / Σ 1/π. D = 0, 1 − √½, 1 − √½, 1, so 1/π = 1, 1.98640, 1.98640, e⁸. w_1 = 0.8 − 0.4 − κ (1 + 1.98640).
    present = torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0]]).bool()
    weights = surrogate(present, torch.tensor([0.8, 0.5, 0.4, 0.3]), 2)
    near = math.exp(8 * (1 - math.sqrt(0.5)) ** 2)
    kappa = 0.2 / (1 + 2 * near + math.exp(8))
    assert near == pytest.approx(1.98640, abs=1e-4)
    assert weights.tolist() == pytest.approx([0.4 - kappa * (1 + near), 0.3 - kappa * (1 + near)], abs=1e-7)
    # and with one weight the other is zero: the two columns are alike, and the first explains more
    assert (surrogate(present, torch.tensor([0.8, 0.5, 0.4, 0.3]), 1) != 0).tolist() == [True, False]


@pytest.mark.parametrize("rarity", [1e-4, 1e-7, 1e-10])
def test_a_class_of_next_to_no_probability_gets_the_same_map_as_any_other(tiny, rarity):
    # f_0 is `rarity` times what it was, in every variant
    weights = torch.rand(3, 12, 10, generator=torch.Generator().manual_seed(0)) / 360
    call = tiny.inputs[:2], torch.zeros(2, dtype=torch.int64)
    often, seldom = (explain(KEY, Share(w), *call, **SETTINGS) for w in (weights, rarity * weights))
    torch.testing.assert_close(seldom / rarity, often, rtol=1e-3, atol=1e-6)


def test_what_float32_cannot_tell_apart_has_no_weight():
    draws = torch.Generator().manual_seed(0)
    present = torch.rand(200, 20, generator=draws) < 0.5
    assert not surrogate(present, 0.5 + torch.rand(200, generator=draws).round() * 2**-24, 5).any()


def test_no_more_superpixels_than_asked_for(tiny):
    for features in (1, 4):
        found = explain(KEY, *tiny.call, **SETTINGS | {"features": features})
        for one, labels in zip(found, cut(tiny.inputs), strict=True):
            assert len(labels[one != 0].unique()) == features


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_perturbations": 0}, "^lime: n_perturbations is 0 and features 10; expected at least 1 of each"),
        ({"features": 0}, "features 0; expected at least 1"),
        ({"segments": 0}, "^segments is 0; expected at least 1 superpixel"),
        ({"background": "gray"}, "^lime: background is 'gray'; expected mean, .*blur or segment_mean; choose one$"),
    ],
)
def test_refusals(tiny, wrong, message):
    with pytest.raises(CardgenError, match=message):
        explain(KEY, *tiny.call, **wrong)
