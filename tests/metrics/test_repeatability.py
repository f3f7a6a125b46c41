"""Repeatability and reproducibility against their slow references, on the same model, and on maps that know nothing of it."""

import numpy as np
import pytest
import torch
from reference import maps as reference_maps
from reference import siblings as reference
from small_methods import made_method, study_of
from small_models import every_batch_and_order, siblings_of, tiny_subject, untouched

from cardgen import measure
from cardgen.api import named
from cardgen.consistency import other_samples
from cardgen.errors import CardgenError
from cardgen.metrics import METRICS
from cardgen.thresholds import DEFAULTS
from cardgen.verdicts import RULES

METHOD = "input_x_gradient"
OTHERS = {"repeatability": "seed-1", "reproducibility": "architecture"}


def found(key, small, method=METHOD, siblings=None, **options):
    return measure(key, *small.call, method=method, siblings=siblings or siblings_of(small.model), **options)


def maps_of(model, small):
    return [reference.signed(model, x, int(t)) for x, t in zip(small.inputs, small.targets, strict=True)]


@pytest.fixture(scope="module")
def maps():
    """Every map by the name of its model; the model's own is called `own`."""
    small = tiny_subject()
    others = siblings_of(small.model)
    models = {"own": small.model} | {name: others[name] for name in ("seed-1", "seed-2", "architecture")}
    return {name: maps_of(model, small) for name, model in models.items()}


def each(similarity, one, other):
    return np.array([similarity(a, b) for a, b in zip(one, other, strict=True)])


@pytest.mark.parametrize("key", OTHERS)
def test_agrees_with_the_reference(tiny, maps, key):
    scores, other = found(key, tiny), maps[OTHERS[key]]
    np.testing.assert_allclose(scores.values, each(reference.ssim, maps["own"], other), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(scores.parts["similarity"], scores.values[None])
    expected = [reference.to_others(maps["own"], i, reference.ssim) for i in range(7)]
    np.testing.assert_allclose(scores.parts["baseline"], [expected], rtol=0, atol=1e-4)
    assert scores.reported["baseline"] == "maps of different images"
    assert scores.reported["mean_baseline"] == pytest.approx(np.mean(expected), abs=1e-4)
    ranked = [reference.to_others(maps["own"], i, reference_maps.spearman) for i in range(7)]
    assert scores.reported["mean_spearman_baseline"] == pytest.approx(np.mean(ranked), abs=1e-4)
    spearman = each(reference_maps.spearman, maps["own"], other)
    assert scores.reported["mean_spearman"] == pytest.approx(spearman.mean(), abs=1e-4)


MUTATIONS = {
    "rank correlation": lambda small, maps: each(reference_maps.spearman, maps["own"], maps["seed-1"]),
    "the other model's own class": lambda small, maps: each(
        reference.ssim,
        maps["own"],
        [
            reference.signed(other, x, reference.predicted(other, x))
            for other in [siblings_of(small.model)["seed-1"]]
            for x in small.inputs
        ],
    ),
    "another sibling": lambda small, maps: each(reference.ssim, maps["own"], maps["seed-2"]),
    "the next image": lambda small, maps: each(reference.ssim, maps["own"], maps["seed-1"][1:] + maps["seed-1"][:1]),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, maps, name):
    assert np.abs(found("repeatability", tiny).values - MUTATIONS[name](tiny, maps)).max() > 0.01


BASELINES = {
    "the same image": lambda maps, i: reference.ssim(maps["own"][i], maps["own"][i]),
    "the next alone": lambda maps, i: reference.ssim(maps["own"][i], maps["own"][(i + 1) % 7]),
    "the five before": lambda maps, i: np.mean(
        [reference.ssim(maps["own"][i], maps["own"][i - k]) for k in range(1, 6)]
    ),
    "of the other model": lambda maps, i: reference.to_others(maps["seed-1"], i, reference.ssim),
}


@pytest.mark.parametrize("name", BASELINES)
def test_a_wrong_baseline_would_be_seen(tiny, maps, name):
    wrong = [BASELINES[name](maps, i) for i in range(7)]
    assert np.abs(found("repeatability", tiny).parts["baseline"][0] - wrong).max() > 0.01


def test_several_seeds(tiny, maps):
    scores = found("repeatability", tiny, models=2)
    both = np.stack([each(reference.ssim, maps["own"], maps[name]) for name in ("seed-1", "seed-2")])
    np.testing.assert_allclose(scores.parts["similarity"], both, rtol=0, atol=1e-4)
    np.testing.assert_allclose(scores.values, both.mean(0), rtol=0, atol=1e-4)
    assert np.array_equal(scores.parts["similarity"][0], found("repeatability", tiny).values)


def test_it_asks_for_as_many_siblings_as_models():
    metric = METRICS["repeatability"]
    assert [s.name for s in metric.siblings({"models": 3})] == ["seed-1", "seed-2", "seed-3"]
    with pytest.raises(CardgenError) as caught:
        found("repeatability", tiny_subject(), models=0)
    assert str(caught.value) == "repeatability with 0 models; expected 1 at least; raise the parameter models"


def by_values(values):
    """A method whose maps are these, in the order of the subject's samples, whatever the model."""
    return made_method(lambda model, inputs, targets, context: values[: len(inputs), None])


def measured(key, small, method):
    study = study_of(small, method)
    study.subject.siblings.update(named(siblings_of(small.model)))
    return METRICS[key].measure(study, METRICS[key].parameters({}))


def test_the_baseline_by_hand(tiny):
    # ranks 1 2 3 4 of four corners: the second map agrees with the first, the third is the second turned round
    up = torch.arange(120.0).view(12, 10)
    maps = torch.stack([up, up, -up])
    study = study_of(tiny.take([0, 1, 2]), by_values(maps))
    with study.subject.open():
        # each has two others: 1 and −1; 1 and −1; −1 and −1
        assert other_samples(study, "spearman").tolist() == pytest.approx([0, 0, -1])


def test_flat_maps_are_no_others(tiny):
    up = torch.arange(120.0).view(12, 10)
    maps = torch.stack([up, torch.ones(12, 10), up])
    study = study_of(tiny.take([0, 1, 2]), by_values(maps))
    with study.subject.open():
        assert other_samples(study, "spearman").tolist() == pytest.approx([1, 0, 1])
    flat = study_of(tiny.take([0, 1, 2]), by_values(torch.ones(3, 12, 10)))
    with flat.subject.open():
        assert other_samples(flat, "spearman").tolist() == [0, 0, 0]


def test_one_sample_has_no_others(tiny):
    scores = found("repeatability", tiny.take([2]))
    assert scores.parts["baseline"].tolist() == [[0.0]]
    assert RULES["vs_baseline"](scores, {}, METRICS["repeatability"].entry, DEFAULTS, 0).verdict == "inconclusive"


def verdict(key, scores):
    return RULES["vs_baseline"](scores, {}, METRICS[key].entry, DEFAULTS, 0).verdict


@pytest.mark.parametrize("key", OTHERS)
class TestVerdicts:
    def test_the_same_model_agrees_with_itself(self, key):
        small = tiny_subject(24)
        scores = found(key, small, siblings={OTHERS[key]: small.model})
        assert scores.values == pytest.approx(np.ones(24))
        assert verdict(key, scores) == "pass"

    @pytest.mark.parametrize("method", ["keyed_noise", "fresh_noise"])
    def test_noise_of_the_model_s_own_does_not_pass(self, key, method):
        scores = found(key, tiny_subject(24), method)
        assert abs(scores.values.mean() - scores.parts["baseline"].mean()) < 0.1
        assert verdict(key, scores) != "pass"

    def test_maps_that_are_the_same_for_all_images_fail(self, key):
        up = torch.arange(120.0).view(12, 10)
        scores = measured(key, tiny_subject(24), by_values(up.expand(24, 12, 10)))
        assert scores.values == pytest.approx(np.ones(24))
        assert verdict(key, scores) == "fail"

    def test_constant_maps_fail(self, key):
        assert verdict(key, found(key, tiny_subject(24), "constant")) == "fail"

    @pytest.mark.parametrize("method", ["noise", "edges", "planted_truth"])
    def test_what_never_changes_passes_and_so_a_pass_requires_more(self, key, method):
        small = tiny_subject(24)
        assert verdict(key, found(key, small, method, masks=small.masks)) == "pass"
        assert METRICS[key].entry.requires == ("model_weight_randomization",)
        randomised = found("model_weight_randomization", small, method, masks=small.masks, reinitialisations=2)
        entry = METRICS["model_weight_randomization"].entry
        assert RULES["randomisation"](randomised, {}, entry, DEFAULTS, 0).verdict == "fail"


@pytest.mark.parametrize("key", OTHERS)
def test_without_the_sibling_it_says_so(tiny, key):
    with pytest.raises(CardgenError, match=f"^needs the sibling model {OTHERS[key]}; "):
        measure(key, *tiny.call, method=METHOD, siblings={"random-labels": tiny.model})


@pytest.mark.parametrize("key", OTHERS)
def test_any_batch_and_order(tiny, key):
    every_batch_and_order(lambda rows, batch: found(key, tiny.take(rows), batch=batch).values)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    siblings = siblings_of(tiny.model)
    with untouched(tiny.model, tiny.inputs, tiny.targets), untouched(siblings["seed-1"]):
        found("repeatability", tiny, "rise", siblings, method_params={"n_masks": 5})
