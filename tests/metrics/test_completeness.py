"""Completeness against its slow reference, by hand, and under wrong versions of itself."""

import numpy as np
import pytest
import torch
from reference import perturbed as reference
from small_methods import made_method, study_of
from small_models import Linear, Small, every_batch_and_order, lively, seeded, small_subject, untouched

from cardgen import explain, measure
from cardgen.errors import CardgenError
from cardgen.metrics import METRICS
from cardgen.space import Space

GRADIENT = {"method": "vanilla_gradients"}
INTEGRATED = {"method": "integrated_gradients"}


class WithoutBiases(torch.nn.Module):
    """Piecewise linear through the origin: s(x) = x · ∂s/∂x."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 6, 3, padding=1, bias=False),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(6 * 120, 4, bias=False),
        )

    def forward(self, x):
        return self.layers(x)


def without_biases():
    return small_subject(seeded(1, WithoutBiases), 12, 10)


def giving(attributions):
    """A method that knows one answer."""
    return made_method(lambda *_: attributions)


def expected(small, attributions, colour=0.0):
    return [
        reference.completeness(
            small.model,
            small.inputs[i],
            int(small.targets[i]),
            attributions[i],
            torch.full_like(small.inputs[i], colour),
        )
        for i in range(7)
    ]


@pytest.mark.parametrize(("name", "colour"), [("black", 0.0), ("white", 1.0), ("mean", 0.25)])
def test_agrees_with_the_reference(tiny, name, colour):
    space = Space(mean=(0.25,))
    attributions = explain("vanilla_gradients", *tiny.call, reduce=False)
    found = measure("completeness", *tiny.call, **GRADIENT, substrate=name, space=space)
    assert found.values == pytest.approx(expected(tiny, attributions, colour), rel=1e-3)
    assert found.valid.all()
    assert found.reported["baseline"] == name
    assert found.reported["median_error"] == pytest.approx(sorted(found.values)[3])


def test_by_hand():
    # s_0(x) = Σ w x with w = (1, 2, −1, 4); x = 1: 6; from black: 6. A = w: Σ = 6, exact. A = 1 everywhere: Σ = 4, a third off.
    # A = −w: Σ = −6, twice off. From white the score does not differ; from grey it does by 3, so A = w is off by its own size.
    small = Small(Linear([1.0, 2.0, -1.0, 4.0]), torch.ones(1, 1, 2, 2), torch.tensor([0]), None, None)
    w = torch.tensor([[[[1.0, 2.0], [-1.0, 4.0]]]])
    metric = METRICS["completeness"]
    for attributions, error in ((w, 0), (torch.ones(1, 1, 2, 2), 1 / 3), (-w, 2), (1.5 * w, 0.5)):
        study = study_of(small, giving(attributions))
        assert metric.measure(study, {"substrate": "black"}).values == pytest.approx([error], abs=1e-6)
    study = study_of(small, giving(w))
    assert metric.measure(study, {"substrate": "grey"}).values == pytest.approx([1.0], abs=1e-6)
    white = metric.measure(study, {"substrate": "white"})
    assert (white.valid.tolist(), white.values.tolist(), white.reported["no_difference"]) == ([False], [0.0], 1)


def test_integrated_gradients_are_complete(tiny):
    found = measure("completeness", *tiny.call, **INTEGRATED, method_params={"steps": 400})
    assert found.values.max() < 0.02
    few = measure("completeness", *tiny.call, **INTEGRATED, method_params={"steps": 1})
    assert few.values.mean() > 10 * found.values.mean()


@pytest.mark.parametrize("baseline", ["white", "mean", "blur"])
def test_against_the_baseline_that_the_method_declares(tiny, baseline):
    options = INTEGRATED | {"method_params": {"steps": 400, "baseline": baseline}}
    found = measure("completeness", *tiny.call, **options, substrate="black")
    assert found.reported["baseline"] == baseline
    assert np.median(found.values) < 0.02


def test_input_x_gradient_is_complete_without_biases_and_only_then(tiny):
    options = {"method": "input_x_gradient"}
    assert measure("completeness", *without_biases().call, **options).values.max() < 1e-4
    assert np.median(measure("completeness", *tiny.call, **options).values) > 0.2
    # from another baseline it is not
    assert np.median(measure("completeness", *without_biases().call, **options, substrate="white").values) > 0.2


MUTATIONS = {
    "of probabilities": lambda small, a, i: (
        abs(
            a.sum().item()
            - (
                p := small.model(small.inputs[i : i + 1]).softmax(1)[0, small.targets[i]].item()
                - small.model(0 * small.inputs[i : i + 1]).softmax(1)[0, small.targets[i]].item()
            )
        )
        / abs(p)
    ),
    "of magnitudes": lambda small, a, i: reference.completeness(
        small.model, small.inputs[i], int(small.targets[i]), a.abs(), 0 * small.inputs[i]
    ),
    "of one channel": lambda small, a, i: reference.completeness(
        small.model, small.inputs[i], int(small.targets[i]), a[:1], 0 * small.inputs[i]
    ),
    "of another class": lambda small, a, i: reference.completeness(
        small.model, small.inputs[i], (int(small.targets[i]) + 1) % 4, a, 0 * small.inputs[i]
    ),
    "from another baseline": lambda small, a, i: reference.completeness(
        small.model, small.inputs[i], int(small.targets[i]), a, 0 * small.inputs[i] + 0.5
    ),
    "over the sum": lambda small, a, i: (
        reference.completeness(small.model, small.inputs[i], int(small.targets[i]), a, 0 * small.inputs[i])
        / abs(a.sum().item())
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
@torch.no_grad()
def test_a_wrong_reference_would_be_seen(tiny, name):
    attributions = explain("vanilla_gradients", *tiny.call, reduce=False)
    found = measure("completeness", *tiny.call, **GRADIENT).values
    wrong = [MUTATIONS[name](tiny, attributions[i], i) for i in range(7)]
    assert np.abs(found - wrong).max() > 0.05


def test_a_black_image_has_no_difference_to_explain(tiny):
    inputs = tiny.inputs.clone()
    inputs[3] = 0
    found = measure("completeness", tiny.model, inputs, tiny.targets, **INTEGRATED)
    assert found.valid.tolist() == [True, True, True, False, True, True, True]
    assert found.reported["no_difference"] == 1
    # zero is the right answer there, so the sample is no miss: it does not count
    assert not found.flat.any()


def test_nothing_explains_nothing(tiny):
    found = METRICS["completeness"].measure(
        study_of(tiny, made_method(lambda model, inputs, *_: torch.zeros_like(inputs))), {"substrate": "black"}
    )
    assert not found.valid.any()
    assert found.flat.all()
    assert found.reported["median_error"] is None


def test_own_maps_do_not_do(tiny):
    with pytest.raises(CardgenError, match="it got maps= only; pass method= instead"):
        measure("completeness", *tiny.call, maps=tiny.maps)


def test_an_unknown_substrate_is_refused(tiny):
    with pytest.raises(CardgenError, match="no substrate is called 'gray'"):
        measure("completeness", *tiny.call, **GRADIENT, substrate="gray")


def test_logits_are_forwarded_once_for_all_methods(tiny):
    from small_runs import forwards

    metric = METRICS["completeness"]
    study = study_of(tiny, made_method(lambda model, inputs, *_: inputs))
    other = study_of(tiny, made_method(lambda model, inputs, *_: -inputs))
    with forwards(tiny.model) as seen:
        metric.measure(study, {"substrate": "black"})
        METRICS["deletion"].measure(study, {"steps": 2, "substrate": "black"})
    assert sum(seen) == 7 + 1 + 7  # clean, black, and one step between
    assert metric.measure(other, {"substrate": "black"}).passes == 8


def test_any_batch_and_order():
    small = small_subject(lively(seeded(1, WithoutBiases)), 12, 10)

    def score(rows, batch):
        return np.log(measure("completeness", *small.take(rows).call, **GRADIENT, batch=batch).values)

    every_batch_and_order(score, tolerance=1e-3)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        measure("completeness", *tiny.call, **GRADIENT)
