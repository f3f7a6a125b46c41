"""What must hold of every metric: a new one is tested by being registered."""

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from small_models import (
    Pooled,
    every_batch_and_order,
    in_other_words,
    lively,
    seeded,
    siblings_of,
    small_subject,
    tiny_subject,
    untouched,
)

from cardgen import measure
from cardgen.api import named
from cardgen.draws import content_ids
from cardgen.errors import CardgenError
from cardgen.methods import METHODS, Explainer, Method, merged
from cardgen.metrics import METRICS
from cardgen.scores import Scores
from cardgen.study import Study, Subject
from cardgen.verdicts import RULES

CHEAP = {"steps": 10, "reinitialisations": 2, "depths": 3, "curve_samples": 4, "runs": 3, "draws": 5, "tolerance": 0.25}
CHEAP |= {"perturbations": 20, "noise_draws": 2, "layers": 3, "labels": 4, "side": 3}
ROUNDED = {
    "completeness": 1e-3,
    "infidelity": 1e-5,
    "faithfulness": 1e-5,
    "deletion_correlation": 5e-5,
    "insertion_correlation": 5e-5,
    "average_drop": 1e-5,
    "average_drop_deletion": 1e-5,
}  # ratios to differences of logits or probabilities, which float32 rounds by the batch
METHOD = {"method": "vanilla_gradients"}
AT_MOST = ("minimality",)  # asks nothing of samples that have no sufficient set, and no group twice
EVERY = [key for key in METRICS if "training" not in METRICS[key].entry.needs]
"""Those that train take images on which a network can learn something; test_roar has them."""
ALIKE = (
    "computational_efficiency",
    "determinism",
    "hyperparameter_dependence",
    "input_invariance",
    "model_agnosticism",
)


def cheap(key, **changes):
    return {k: v for k, v in (CHEAP | changes).items() if k in METRICS[key].defaults}


def related(small):
    """All that a metric may ask for beside model, images and method."""
    return {"masks": small.masks, "siblings": siblings_of(small.model), "synonyms": in_other_words(small.inputs)}


def subject_of(small, **options):
    """The same as a subject."""
    given = related(small)
    given["siblings"] = named(given["siblings"])
    return Subject(*small.call, content_ids(small.inputs), **given, **options)


def run(key, small, **options):
    """Measure with few steps and draws; by maps of a method unless told otherwise."""
    options = related(small) | (METHOD if "maps" not in options and "method" not in options else {}) | options
    return measure(key, *small.call, **cheap(key) | options)


def takes_maps(key):
    """Whether a metric works on maps alone; if not, it says what it needs."""
    small = tiny_subject()
    try:
        run(key, small, maps=small.maps)
    except CardgenError as error:
        return "it got maps= only; pass method= instead" not in str(error)
    return True


def on_maps_of(key, small, maker):
    """Measure a method whose attributions are what `maker` returns, whatever weights, seeds or inputs it is asked for."""
    entry = METHODS["constant"].entry
    made = Method(entry, lambda model, inputs, targets, context: maker(inputs)[:, None], lambda parameters: 0)
    subject, metric = subject_of(small), METRICS[key]
    return metric.measure(Study(subject, len(subject), made), merged(key, metric.defaults, cheap(key)))


def check(scores, n):
    assert isinstance(scores, Scores)
    assert scores.values.shape == scores.valid.shape == scores.flat.shape == (n,)
    assert scores.values.dtype == np.float64
    assert scores.valid.dtype == scores.flat.dtype == bool
    assert np.isfinite(scores.values).all()
    assert all(np.isfinite(part).all() and part.shape[-1] == n for part in scores.parts.values())
    assert all(np.isfinite(v) for v in scores.reported.values() if isinstance(v, float))


@pytest.mark.parametrize("key", EVERY)
class TestEach:
    def test_one_finite_float64_a_sample(self, key):
        check(run(key, tiny_subject()), 7)

    def test_one_sample(self, key):
        check(run(key, tiny_subject().take([3])), 1)

    def test_own_maps_or_a_word_that_a_method_is_needed(self, key):
        small = tiny_subject()
        if takes_maps(key):
            check(run(key, small, maps=small.maps), 7)
            assert np.array_equal(
                run(key, small, maps=small.maps).values,
                run(key, small, maps=small.maps.double().requires_grad_()).values,
            )

    def test_own_maps_of_float64_are_not_rounded(self, key):
        small = tiny_subject()
        if takes_maps(key):
            ranks = small.maps.flatten(1).argsort(dim=1).argsort(dim=1).view(7, 12, 10).double()
            plain = run(key, small, maps=ranks)
            for scale in (2.0**300, 2.0**-300):
                np.testing.assert_allclose(run(key, small, maps=scale * ranks).values, plain.values, atol=1e-9)
            assert not run(key, small, maps=2.0**40 + ranks).flat.any()

    def test_flat_maps_never_end_it(self, key):
        for value in (0.0, -2.0, 1e-30):
            scores = on_maps_of(key, tiny_subject(), lambda x, v=value: torch.full((len(x), 12, 10), v))
            check(scores, 7)
            assert scores.flat.all()

    def test_one_flat_map_among_others_changes_nothing_for_them(self, key):
        small = tiny_subject()

        def maker(x):
            return x.mean(1) * (x.flatten(1)[:, 0] != small.inputs[2, 0, 0, 0]).view(-1, 1, 1)

        scores, others = on_maps_of(key, small, maker), on_maps_of(key, small, lambda x: x.mean(1))
        check(scores, 7)
        assert scores.flat.tolist() == [False, False, True, False, False, False, False]
        kept = np.arange(7) != 2
        np.testing.assert_allclose(scores.values[kept], others.values[kept], atol=1e-9)

    def test_all_negative_maps_are_maps(self, key):
        scores = on_maps_of(key, tiny_subject(), lambda x: -1 - x.mean(1))
        check(scores, 7)
        assert not scores.flat.any()

    def test_huge_and_tiny_maps(self, key):
        plain = on_maps_of(key, tiny_subject(), lambda x: x.mean(1))
        for scale in (2.0**100, 2.0**-100):
            scores = on_maps_of(key, tiny_subject(), lambda x, s=scale: s * x.mean(1))
            check(scores, 7)
            if key not in ("computational_efficiency", "completeness"):  # seconds; a sum in the unit of the score
                np.testing.assert_allclose(scores.values, plain.values, atol=1e-9)

    def test_empty_masks(self, key):
        small = tiny_subject()
        scores = run(key, small._replace(masks=torch.zeros_like(small.masks)))
        check(scores, 7)
        assert scores.valid.any() == ("masks" not in METRICS[key].entry.needs)

    def test_masks_where_they_are_needed(self, key):
        small = tiny_subject()
        if "masks" in METRICS[key].entry.needs:
            with pytest.raises(CardgenError, match="masks"):
                run(key, small, masks=None)
        else:
            np.testing.assert_array_equal(run(key, small, masks=None).values, run(key, small).values)

    def test_the_same_score_whatever_batch_and_order(self, key):
        small = tiny_subject()

        def score(rows, batch):
            values = run(key, small.take(rows), batch=batch).values
            # where all samples score alike by nature, a term that tells them apart; the helper asks for one
            return values if key not in ALIKE else values + np.array(rows)

        every_batch_and_order(score, tolerance=ROUNDED.get(key, 1e-6))

    def test_the_same_score_twice(self, key):
        small = tiny_subject()
        one, other = run(key, small), run(key, small)
        assert np.array_equal(one.values, other.values)
        assert one.reported == other.reported
        assert one.curve == other.curve

    def test_nothing_is_touched(self, key):
        small = tiny_subject()
        small.model.train()
        siblings = siblings_of(small.model)
        with ExitStack() as stack:
            stack.enter_context(untouched(small.model, small.inputs, small.targets, small.masks))
            for other in siblings.values():
                stack.enter_context(untouched(other))
            run(key, small, siblings=siblings)

    @pytest.mark.parametrize("n", [1, 7, 12])
    @pytest.mark.parametrize("method", ["vanilla_gradients", "integrated_gradients", "rise", "grad_cam", "noise"])
    def test_the_declared_passes_are_those_measured(self, key, method, n):
        small = small_subject(lively(seeded(0, Pooled)), 12, 10, n)
        few = {k: v for k, v in {"steps": 5, "n_masks": 6}.items() if k in METHODS[method].defaults}
        metric, explained = METRICS[key], METHODS[method]
        parameters, explaining = metric.parameters(cheap(key)), explained.parameters(few)
        cuts = (CHEAP["curve_samples"],)  # as the runner cuts, so that fewer samples are not computed with all others
        subject = subject_of(small, cuts=cuts)
        scores = metric.measure(Study(subject, n, explained, explaining), parameters)
        declared = metric.passes(n, Explainer(explained, explaining), parameters)
        if key in AT_MOST:
            assert scores.passes <= declared
        else:
            assert scores.passes == pytest.approx(declared, rel=0.1, abs=2)

    def test_an_unknown_parameter_is_refused(self, key):
        with pytest.raises(CardgenError, match=f"{key}: no parameter is called 'nosuchthing'"):
            run(key, tiny_subject(), nosuchthing=1)

    def test_what_it_says_of_itself(self, key):
        entry = METRICS[key].entry
        assert entry.key == key
        assert entry.rule in RULES
        assert entry.title
        assert entry.question.endswith("?")
        assert entry.source.url.startswith("https://")
        assert METRICS[key].function.__doc__
        assert all(other in METRICS for other in entry.requires)


@pytest.mark.usefixtures("as_users_run")
class TestMessages:
    def test_unknown_metric(self):
        with pytest.raises(CardgenError, match=r"^no metric is called 'delition'; did you mean deletion.*[?]$"):
            measure("delition", *tiny_subject().call, method="noise")

    @pytest.mark.parametrize("given", [{}, {"method": "noise", "maps": torch.rand(7, 12, 10)}])
    def test_maps_or_method(self, given):
        with pytest.raises(CardgenError, match=r"^measure needs maps= or method=, one of the two"):
            measure("deletion", *tiny_subject().call, **given)

    def test_shape_of_maps(self):
        for wrong in (torch.rand(6, 12, 10), torch.rand(7, 10, 12)):
            with pytest.raises(CardgenError, match=r"^maps have shape .*; expected \(7, 12, 10\)"):
                measure("deletion", *tiny_subject().call, maps=wrong)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_maps_that_are_not_finite(self, value):
        maps = torch.rand(7, 12, 10)
        maps[3, 2, 1] = value
        with pytest.raises(CardgenError, match=r"^maps hold NaN or infinities"):
            measure("sparsity", *tiny_subject().call, maps=maps)
