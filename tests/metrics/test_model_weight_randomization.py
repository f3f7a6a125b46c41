"""Model weight randomisation against its slow reference, by hand, and on controls."""

import copy

import numpy as np
import pytest
import torch
from reference import maps as reference_maps
from reference import randomisation as reference
from small_models import Linear, every_batch_and_order, untouched

from cardgen import explain, measure, weights
from cardgen.errors import CardgenError

KEY = "model_weight_randomization"


def reinitialised(model, inputs, draw, layers=None, seed=0):
    """A copy with the topmost layers reset."""
    other = copy.deepcopy(model)
    state = other.state_dict()
    for layer in weights.layers_from_top(model, inputs[:1])[:layers]:
        state |= weights.reset(model, layer, seed, draw)
    other.load_state_dict(state)
    return other


def expected(small, draws=2, score=reference.mean_similarity):
    others = [reinitialised(small.model, small.inputs, draw) for draw in range(draws)]
    return [score(small.model, others, small.inputs[i], int(small.targets[i])) for i in range(7)]


def found(small, **options):
    options = {"method": "vanilla_gradients", "reinitialisations": 2} | options
    return measure(KEY, *small.call, **options)


def test_agrees_with_the_reference(tiny):
    scores = found(tiny)
    np.testing.assert_allclose(scores.values, expected(tiny), rtol=0, atol=1e-4)
    assert scores.parts["similarity"].shape == (2, 7)
    np.testing.assert_allclose(scores.parts["similarity"].mean(0), scores.values, atol=1e-12)


def test_similarities_that_are_reported(tiny):
    from cardgen.similarity import hog_similarity, spearman_abs, ssim

    scores = found(tiny)
    maps = explain("vanilla_gradients", *tiny.call)
    others = [
        explain("vanilla_gradients", reinitialised(tiny.model, tiny.inputs, d), tiny.inputs, tiny.targets)
        for d in (0, 1)
    ]
    for name, similarity in (("spearman_abs", spearman_abs), ("ssim", ssim), ("hog", hog_similarity)):
        mean = np.mean([similarity(maps, other).numpy() for other in others])
        assert scores.reported[f"mean_{name}"] == pytest.approx(mean, abs=1e-4)
    between = [reference_maps.spearman(maps[i], maps[i - 1]) for i in range(7)]
    assert scores.reported["between_images"] == pytest.approx(np.mean(between), abs=1e-4)


def test_by_hand():
    # A linear model's gradient is its own weight vector, the same for every image: |w| = 1 … 4 on 2 × 2 pixels in reading order.
    # The re-initialised weights' order is whatever the draw gives, and Spearman's 1 − 6 Σ d²/(4·15) follows from its ranks.
    class Row(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(16, 1, bias=False)
            self.head.weight.data = torch.arange(1.0, 17.0)[None]

        def forward(self, x):
            return self.head(x.flatten(1))

    model, images = Row(), torch.rand(3, 1, 4, 4)
    scores = measure(
        KEY, model, images, torch.zeros(3, dtype=torch.int64), method="vanilla_gradients", reinitialisations=1
    )
    drawn = weights.reset(model, "head", 0, 0)["head.weight"][0].abs()
    ranks = [sum(bool(v >= u) for u in drawn) for v in drawn]
    d2 = sum((rank - (i + 1)) ** 2 for i, rank in enumerate(ranks))
    assert scores.values == pytest.approx(np.full(3, 1 - 6 * d2 / (16 * 255)))


MUTATIONS = {
    "compared with itself": lambda model, others, x, t: reference.similarity(model, model, x, t),
    "only the first draw": lambda model, others, x, t: reference.similarity(model, others[0], x, t),
    "the other model's own class": lambda model, others, x, t: np.mean(
        [
            reference_maps.spearman(
                reference.largest_gradient(model, x, t), reference.largest_gradient(o, x, (t + 1) % 4)
            )
            for o in others
        ]
    ),
    "linear correlation": lambda model, others, x, t: np.mean(
        [
            reference_maps.pearson(*(reference_maps.pixels(reference.largest_gradient(m, x, t)) for m in (model, o)))
            for o in others
        ]
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    assert np.abs(found(tiny).values - expected(tiny, score=MUTATIONS[name])).max() > 0.01


def test_the_untouched_model_has_no_part_in_the_average(tiny):
    assert found(tiny, reinitialisations=1).values == pytest.approx(expected(tiny, draws=1), abs=1e-4)


def test_more_draws_go_on_where_fewer_ended(tiny):
    few, many = (found(tiny, reinitialisations=k).parts["similarity"] for k in (2, 3))
    np.testing.assert_array_equal(many[:2], few)


def test_layers_of_one_draw_left_alone_would_be_seen(tiny):
    others = [reinitialised(tiny.model, tiny.inputs, draw, layers=1) for draw in range(2)]
    wrong = [reference.mean_similarity(tiny.model, others, tiny.inputs[i], int(tiny.targets[i])) for i in range(7)]
    assert np.abs(found(tiny).values - wrong).max() > 0.01


class TestControls:
    """What maps without information on the model score: METRICS, randomisation."""

    def test_noise_does_not_change_with_the_weights(self, tiny):
        # drawn from the sample's generator, which the weights have no part in: similarity 1; another seed: near 0
        for method in ("noise", "noise_7"):
            scores = found(tiny, method=method)
            assert scores.values == pytest.approx(np.ones(7))
            assert abs(scores.reported["self_reseeded"]) < 0.3
            assert scores.reported["self_jittered"] == pytest.approx(1)
            assert scores.parts["self"].mean() == pytest.approx(scores.reported["self_reseeded"])

    def test_constant_and_planted_maps_stay(self, tiny):
        assert found(tiny, method="constant").values == pytest.approx(np.ones(7))
        assert found(tiny, method="constant").flat.all()
        planted = found(tiny, method="planted_truth", masks=tiny.masks)
        assert planted.values == pytest.approx(np.ones(7))
        assert planted.parts["self"] == pytest.approx(np.ones(7))

    def test_a_method_that_looks_at_the_model_changes_and_is_like_itself(self, tiny):
        scores = found(tiny)
        assert scores.values.mean() < 0.5
        assert scores.parts["self"].min() > 0.9


def test_samples_whose_prediction_the_jitter_moves_are_refused():
    # Weights ±1000 in turn: Σ w·x is 0 on a plain image, where a jitter of 0.1 % moves the logit by about 1·0.5·√360 = 9, and
    # 1000·0.3·360 on an image of that very pattern, which no jitter moves.
    pattern = torch.ones(360)
    pattern[1::2] = -1
    images = torch.full((7, 3, 12, 10), 0.5)
    images[3:] += 0.3 * pattern.view(3, 12, 10)
    images += torch.arange(7).view(7, 1, 1, 1) * 1e-3
    scores = measure(
        KEY,
        Linear(1000 * pattern),
        images,
        torch.zeros(7, dtype=torch.int64),
        method="vanilla_gradients",
        reinitialisations=1,
    )
    assert scores.reported["jitter_refused"] == 3
    assert np.isfinite(scores.parts["self"]).all()


def test_own_maps_cannot_be_made_again(tiny):
    with pytest.raises(CardgenError, match="pass method= instead"):
        measure(KEY, *tiny.call, maps=tiny.maps)


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        return found(tiny.take(rows), batch=batch).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    tiny.model.head.weight.requires_grad_(False)
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        found(tiny, method="rise", method_params={"n_masks": 5})


def test_nothing_is_touched_when_the_method_fails(tiny):
    class Fails(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.calls = inner, 0

        def forward(self, x):
            self.calls += 1
            if self.calls == 30:
                raise RuntimeError("out of luck")
            return self.inner(x)

    model = Fails(tiny.model.train())
    with untouched(tiny.model, tiny.inputs), pytest.raises(RuntimeError, match="out of luck"):
        measure(KEY, model, tiny.inputs, tiny.targets, method="vanilla_gradients", batch=1)
    assert not model._forward_hooks
