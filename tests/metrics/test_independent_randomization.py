"""Independent randomisation against its slow reference, by hand, and on controls."""

import copy

import numpy as np
import pytest
import torch
from reference import randomisation as reference
from small_models import Pooled, Residual, Tiny, every_batch_and_order, lively, seeded, small_subject, untouched

from cardgen import measure, weights
from cardgen.errors import CardgenError
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.recipes import Weights
from cardgen.study import Study, Subject
from cardgen.thresholds import Thresholds
from cardgen.verdicts import RULES

KEY = "independent_randomization"
LAYERS = ["head", "features.norm2", "features.conv2", "features.norm1", "features.conv1"]


def found(small, **options):
    options = {"method": "vanilla_gradients", "reinitialisations": 2} | options
    return measure(KEY, *small.call, **options)


def without(model, layer, draw):
    """A copy with one layer drawn anew."""
    other = copy.deepcopy(model)
    other.load_state_dict(other.state_dict() | weights.reset(model, layer, 0, draw))
    return other


def expected(small, layers=LAYERS, draws=2, score=reference.median_layer):
    others = [[without(small.model, layer, draw) for draw in range(draws)] for layer in layers]
    values = [score(small.model, others, small.inputs[i], int(small.targets[i])) for i in range(7)]
    return np.array([np.nan if value is None else value for value in values])


def compared(scores, values):
    """Largest difference where both have a number; infinite where only one has."""
    if not np.array_equal(scores.valid, ~np.isnan(values)):
        return np.inf
    return np.abs(scores.values - values)[scores.valid].max()


def test_agrees_with_the_reference(tiny):
    scores, values = found(tiny), expected(tiny)
    assert scores.valid.tolist() == [True, False, True, True, True, False, True]
    assert compared(scores, values) < 1e-4
    assert scores.parts["similarity"].shape == (2, 7)
    np.testing.assert_allclose(scores.parts["similarity"].mean(0), scores.values, atol=1e-12)


def test_every_layer_is_shown_over_the_samples_that_it_counts_for(tiny):
    scores = found(tiny)
    points, counted = {}, []
    for place, layer in enumerate(LAYERS, 1):
        others = [without(tiny.model, layer, draw) for draw in range(2)]
        rows = [(tiny.inputs[i], int(tiny.targets[i])) for i in range(7)]
        rows = [row for row in rows if reference.moved(tiny.model, others, *row) > 0.1]
        counted.append(f"{layer} {len(rows)}")
        if rows:
            points[place] = np.mean([reference.mean_similarity(tiny.model, others, *row) for row in rows])
    assert scores.reported["counted_for"] == ", ".join(counted)
    assert "features.norm1 0" in counted
    assert list(scores.curve.x) == list(points)
    assert list(scores.curve.y) == pytest.approx(list(points.values()), abs=1e-3)


@pytest.mark.parametrize(
    ("layers", "taken"),
    [(1, [0]), (2, [0, 4]), (3, [0, 2, 4]), (4, [0, 1, 3, 4]), (9, [0, 1, 2, 3, 4])],
)
def test_layers_are_evenly_spaced_from_the_first_to_the_last(tiny, layers, taken):
    scores = found(tiny, layers=layers)
    assert [name.split()[0] for name in scores.reported["counted_for"].split(", ")] == [LAYERS[i] for i in taken]
    assert compared(scores, expected(tiny, [LAYERS[i] for i in taken])) < 1e-4


@pytest.mark.parametrize("layers", [0, 65])
def test_numbers_of_layers_that_no_record_holds_are_refused(tiny, layers):
    with pytest.raises(CardgenError) as caught:
        found(tiny, layers=layers)
    assert str(caught.value) == (
        f"layers is {layers}; expected 1 to 64, the points that a curve holds; take another number"
    )


def test_many_layers_are_counted_without_their_names():
    small = small_subject(seeded(2, Residual), 12, 10, 4)
    scores = found(small, layers=9, reinitialisations=1)
    assert len(scores.reported["counted_for"].split(", ")) == 9
    assert scores.reported["counted_for"].replace(", ", "").isdecimal()


def median_of(similarities):
    """A reference that takes another of the similarities of the layers that count."""

    def score(model, others, image, target):
        counted = [o for o in others if reference.moved(model, o, image, target) > 0.1]
        return similarities([reference.mean_similarity(model, o, image, target) for o in counted]) if counted else None

    return score


MUTATIONS = {
    "every layer counts": lambda m, o, x, t: reference.median_layer(m, o, x, t, threshold=-1),
    "another threshold": lambda m, o, x, t: reference.median_layer(m, o, x, t, threshold=0.3),
    "the mean over layers": median_of(np.mean),
    "the least alike layer": median_of(min),
    "the most alike layer": median_of(max),
    "the lower of two": median_of(lambda found: sorted(found)[(len(found) - 1) // 2]),
    "only the first draw": lambda m, o, x, t: reference.median_layer(m, [draws[:1] for draws in o], x, t),
    "the class of the redrawn network": lambda m, o, x, t: reference.median_layer(m, o, x, (t + 1) % 4),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    assert compared(found(tiny), expected(tiny, score=MUTATIONS[name])) > 0.01


def test_layers_drawn_anew_together_would_be_seen(tiny):
    def cascade(layer, draw):
        other = copy.deepcopy(tiny.model)
        for name in LAYERS[: LAYERS.index(layer) + 1]:
            other.load_state_dict(other.state_dict() | weights.reset(tiny.model, name, 0, draw))
        return other

    others = [[cascade(layer, draw) for draw in range(2)] for layer in LAYERS]
    wrong = [reference.median_layer(tiny.model, others, tiny.inputs[i], int(tiny.targets[i])) for i in range(7)]
    assert compared(found(tiny), np.array([np.nan if value is None else value for value in wrong])) > 0.01


def test_by_hand():
    # Logits are [a Σ w·u, 0] of a linear layer w below a scale a. A map of |∂s/∂x| = |a w| keeps its order whatever a is (correlation
    # 1), and takes that of the layer's new weights: of two layers that count, the more alike one is the median.
    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.below = torch.nn.Linear(16, 1, bias=False)
            self.above = torch.nn.Linear(1, 2, bias=False)
            self.below.weight.data = torch.arange(1.0, 17.0)[None]
            self.above.weight.data = torch.tensor([[9.0], [0.0]])

        def forward(self, x):
            return self.above(self.below(x.flatten(1)))

    model, images = Scaled(), 0.02 * torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.zeros(3, dtype=torch.int64)
    options = {"method": "vanilla_gradients", "reinitialisations": 1}
    both, top = (measure(KEY, model, images, targets, layers=k, **options) for k in (5, 1))
    assert both.reported["counted_for"] == "above 3, below 3"
    assert both.values == pytest.approx(np.ones(3))
    assert top.values == pytest.approx(np.ones(3))
    drawn = weights.reset(model, "below", 0, 0)["below.weight"][0].abs()
    d2 = sum((sum(bool(v >= u) for u in drawn) - (i + 1)) ** 2 for i, v in enumerate(drawn))
    assert list(both.curve.y) == pytest.approx([1, 1 - 6 * d2 / (16 * 255)], abs=1e-3)


def test_one_layer_alone_is_changed_and_given_back(tiny):
    subject = Subject(*tiny.call, tuple("abcdefg"))
    fresh = weights.reset(tiny.model, "features.norm2", 0, 1)
    with untouched(tiny.model), subject.changed(Weights(only="features.norm2", draw=1)) as model:
        state = dict(model.state_dict())
        moved = {name for name, value in fresh.items() if torch.equal(state[name], value)}
        kept = {name: value.clone() for name, value in state.items() if name not in fresh}
    assert moved == set(fresh)
    assert all(torch.equal(value, tiny.model.state_dict()[name]) for name, value in kept.items())


class TestWithoutALayerThatCounts:
    @pytest.fixture
    def still(self):
        """A model whose prediction no layer moves: its logits differ by less than 0.01."""
        model = lively(seeded(0, Pooled))

        class Quiet(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = model

            def forward(self, x):
                return 1e-3 * self.inner(x)

        return small_subject(Quiet(), 12, 10)

    def test_nothing_is_valid_and_the_reason_is_said(self, still):
        scores = found(still)
        assert not scores.valid.any()
        assert np.isfinite(scores.values).all()
        assert scores.curve is None
        assert scores.reason == "No layer's re-initialisation moves the prediction of any sample by more than 0.1."
        assert scores.reported == {
            "counted_for": "inner.head 0, inner.features.norm2 0, inner.features.conv2 0, inner.features.norm1 0, inner.features.conv1 0"
        }

    def test_the_rule_says_so_and_advises_nothing(self, still):
        decision = RULES["randomisation"](found(still), {}, METRICS[KEY].entry, Thresholds(resamples=100), 0)
        assert (decision.verdict, decision.n, decision.advice) == ("inconclusive", 0, "")
        assert decision.reason.startswith("No layer's re-initialisation moves")


def test_samples_that_do_not_count_have_no_part_in_what_is_reported(tiny):
    everything, some = found(tiny), found(tiny.take([0, 2, 3, 4, 6]))
    assert some.valid.all()
    for name in ("mean_ssim", "mean_hog", "mean_spearman_abs", "self_reseeded", "self_jittered", "jitter_refused"):
        assert some.reported[name] == pytest.approx(everything.reported[name], abs=1e-6)


@pytest.mark.parametrize("method", ["noise", "noise_7", "constant", "planted_truth", "edges"])
def test_maps_without_the_model_fail(method):
    small = small_subject(lively(seeded(0, Tiny)), 12, 10, 60)
    scores = found(small, method=method, masks=small.masks, layers=3)
    assert scores.valid.sum() >= 20
    assert scores.values[scores.valid] == pytest.approx(np.ones(scores.valid.sum()))
    assert RULES["randomisation"](scores, {}, METRICS[KEY].entry, Thresholds(resamples=500), 0).verdict == "fail"


def test_own_maps_cannot_be_made_again(tiny):
    with pytest.raises(CardgenError, match="pass method= instead"):
        measure(KEY, *tiny.call, maps=tiny.maps)


def test_more_draws_go_on_where_fewer_ended(tiny):
    subject = Subject(*tiny.call, tuple("abcdefg"))
    study = Study(subject, 7, METHODS["vanilla_gradients"])
    few, many = (METRICS[KEY].measure(study, {"reinitialisations": k, "layers": 1}) for k in (2, 3))
    np.testing.assert_array_equal(many.parts["similarity"][:2], few.parts["similarity"])


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        scores = found(tiny.take(rows), batch=batch)
        return np.where(scores.valid, scores.values, 9.0)

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    tiny.model.head.weight.requires_grad_(False)
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        found(tiny)
