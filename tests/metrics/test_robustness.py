"""Robustness against its slow reference, by hand, and under wrong versions of itself."""

import numpy as np
import pytest
import torch
from reference import perturbed as reference
from small_methods import made_method, study_of
from small_models import Linear, Share, Small, every_batch_and_order, untouched

from cardgen import explain, measure
from cardgen.errors import CardgenError
from cardgen.metrics import METRICS
from cardgen.perturbations import noisy

KEY = "robustness"


def moved(small, sigma, draws):
    """The noisy inputs of every draw, as the metric makes them."""
    subject = study_of(small, made_method(lambda model, inputs, *_: inputs)).subject
    return [noisy(sigma, draw).make(subject, slice(0, len(small.inputs))) for draw in range(draws)]


def rows(small, method, sigma, draws):
    """Of every sample: the image, its attributions, and what its draws gave."""
    small.model.eval()
    before = explain(method, *small.call, reduce=False)
    with torch.no_grad():
        classes = small.model(small.inputs).argmax(1)
        drawn = [
            (x, explain(method, small.model, x, small.targets, reduce=False), small.model(x).argmax(1) == classes)
            for x in moved(small, sigma, draws)
        ]
    return [
        (small.inputs[i], before[i], [(x[i], a[i], bool(kept[i])) for x, a, kept in drawn])
        for i in range(len(small.inputs))
    ]


@pytest.mark.parametrize("method", ["vanilla_gradients", "input_x_gradient", "input_magnitude"])
@pytest.mark.parametrize("sigma", [0.01, 0.1])
def test_agrees_with_the_reference(tiny, method, sigma):
    found = measure(KEY, *tiny.call, method=method, draws=4, sigma=sigma)
    expected = [reference.lipschitz(*row) for row in rows(tiny, method, sigma, 4)]
    assert found.valid.tolist() == [value is not None for value in expected]
    assert found.values[found.valid] == pytest.approx([value for value in expected if value is not None], rel=1e-4)


def test_by_hand():
    # A(x) = 3x: ‖A' − A‖ = 3‖x' − x‖ whatever the noise; over ‖A‖ = 3‖x‖ that is 1/‖x‖ = 1/0.5.
    images = torch.tensor([[[[0.3, 0.4]]]])
    small = Small(Linear([1.0, 1.0]), images, torch.tensor([0]), None, None)
    found = METRICS[KEY].measure(study_of(small, made_method(lambda model, x, *_: 3 * x)), {"draws": 5, "sigma": 0.01})
    assert found.values == pytest.approx([2.0], rel=1e-4)
    assert found.reported["lipschitz"] == pytest.approx(3.0, rel=1e-4)
    assert (found.reported["flipped_draws"], found.reported["no_draw_left"]) == (0, 0)


def halves(level):
    """A model whose class changes where x₁ + x₂ passes 1, and an image at a level."""
    return Small(Share(torch.tensor([[[0.5, 0.5]]])), torch.full((1, 1, 1, 2), level), torch.tensor([0]), None, None)


def test_draws_that_change_the_prediction_do_not_count():
    # the map jumps by 1 exactly where the prediction changes, so that no draw that counts shows it
    study = study_of(halves(0.5001), made_method(lambda model, x, *_: 1 + (x.sum((1, 2, 3), keepdim=True) < 1) + 0 * x))
    found = METRICS[KEY].measure(study, {"draws": 20, "sigma": 0.01})
    assert found.values.tolist() == [0]
    assert found.valid.tolist() == [True]
    assert 0 < found.reported["flipped_draws"] < 20


def test_a_sample_without_any_draw_left_has_no_score():
    found = METRICS[KEY].measure(
        study_of(halves(0.5 + 1e-7), made_method(lambda model, x, *_: x)), {"draws": 1, "sigma": 0.3}
    )
    flipped = bool(moved(halves(0.5 + 1e-7), 0.3, 1)[0].sum() < 1)
    other = METRICS[KEY].measure(
        study_of(halves(0.5 - 1e-7), made_method(lambda model, x, *_: x)), {"draws": 1, "sigma": 0.3}
    )
    assert found.valid.tolist() == [not flipped]
    assert found.reported["no_draw_left"] + other.reported["no_draw_left"] >= 1


MUTATIONS = {
    "the mean over draws": lambda x, a, d: np.mean([reference.lipschitz(x, a, [one]) for one in d if one[2]]),
    "not relative": lambda x, a, d: reference.lipschitz(x, a, d) * float(a.double().norm()),
    "not over the step": lambda x, a, d: reference.sensitivity(a, [one[1] for one in d if one[2]]),
    "of the map": lambda x, a, d: reference.lipschitz(x, a.abs().amax(0), [(y, b.abs().amax(0), k) for y, b, k in d]),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    found = measure(KEY, *tiny.call, method="vanilla_gradients", draws=4, sigma=0.3)
    wrong = [
        MUTATIONS[name](*row) if ok else 1.0
        for row, ok in zip(rows(tiny, "vanilla_gradients", 0.3, 4), found.valid, strict=True)
    ]
    assert found.valid.any()
    assert np.abs(found.values[found.valid] / np.array(wrong)[found.valid] - 1).max() > 0.01


def test_more_draws_go_on_from_fewer(tiny):
    found = [measure(KEY, *tiny.call, method="input_x_gradient", draws=k).values for k in (1, 3, 6)]
    assert (found[0] <= found[1]).all()
    assert (found[1] <= found[2]).all()
    assert (found[0] < found[2]).any()


@pytest.mark.parametrize("method", ["noise", "noise_7", "constant", "centred_gaussian", "planted_truth"])
def test_what_does_not_see_the_image_does_not_change(tiny, method):
    assert measure(KEY, *tiny.call, method=method, masks=tiny.masks).values.tolist() == [0] * 7


def test_predictions_are_asked_for_once_for_all_methods(tiny):
    subject = study_of(tiny, made_method(lambda model, x, *_: x)).subject
    metric = METRICS[KEY]
    from cardgen.methods import METHODS
    from cardgen.study import Study

    metric.measure(Study(subject, 7, METHODS["noise"], {"draw": 0}), metric.parameters({}))
    seen = []
    tiny.model.register_forward_hook(lambda *_: seen.append(1))
    metric.measure(Study(subject, 7, METHODS["edges"]), metric.parameters({}))
    assert seen == []


@pytest.mark.parametrize(
    ("parameters", "said"), [({"draws": 0}, "0 draws and sigma 0.01"), ({"sigma": 0.0}, "20 draws and sigma 0")]
)
def test_parameters_that_measure_nothing_are_refused(tiny, parameters, said):
    with pytest.raises(CardgenError) as caught:
        measure(KEY, *tiny.call, method="noise", **parameters)
    assert str(caught.value) == (
        f"robustness with {said}; expected at least 1 draw and a sigma above 0; mend the parameters draws and sigma"
    )


def test_own_maps_cannot_be_made_again(tiny):
    with pytest.raises(CardgenError, match="it got maps= only; pass method= instead"):
        measure(KEY, *tiny.call, maps=tiny.maps)


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        return measure(KEY, *tiny.take(rows).call, method="grad_cam", draws=3, batch=batch).values

    every_batch_and_order(score, tolerance=1e-4)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        measure(KEY, *tiny.call, method="vanilla_gradients", draws=2)
