"""Model agnosticism, on methods of which it is known what they need."""

import numpy as np
import pytest
import torch
from reference import maps as reference
from small_methods import made_method, measured
from small_models import every_batch_and_order, untouched

from cardgen import measure
from cardgen.errors import CardgenError
from cardgen.methods import METHODS
from cardgen.subjects.black_box import BlackBox

KEY = "model_agnosticism"


def probabilities(model, inputs, targets, context):
    """Needs outputs: the image weighted by the class's probability."""
    with torch.no_grad():
        chance = model(inputs).softmax(1).gather(1, targets[:, None])
    return inputs * chance[:, :, None, None]


def gradients(model, inputs, targets, context):
    """Needs gradients."""
    inputs = inputs.clone().requires_grad_()
    return torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)[0]


def weights(model, inputs, targets, context):
    """Needs the layers, and breaks without them."""
    return inputs * next(model.parameters()).mean()


def quiet(model, inputs, targets, context):
    """Needs the layers, and does something else without them."""
    found = gradients(model, inputs, targets, context)
    return found.relu() if any(isinstance(m, torch.nn.ReLU) for m in model.modules()) else found


NEEDS = {
    "outputs": (probabilities, "Works on any model that gives outputs."),
    "gradients": (
        gradients,
        "Needs gradients and no layers; with outputs alone it stops: "
        "element 0 of tensors does not require grad and does not have a grad_fn.",
    ),
    "internals": (weights, "Needs the model's layers; with gradients alone it stops: StopIteration."),
}


def access(scores):
    return [scores.reported[level] for level in ("outputs", "gradients", "everything")]


@pytest.mark.parametrize("declared", NEEDS)
def test_what_is_needed(tiny, declared):
    function, reason = NEEDS[declared]
    scores = measured(KEY, tiny, made_method(function, access=declared))
    place = list(NEEDS).index(declared)
    assert access(scores) == [level >= place for level in range(3)]
    assert scores.reason == reason
    assert scores.reported["declared"] == declared
    assert scores.values == pytest.approx(np.zeros(7), abs=1e-5)


def test_what_quietly_does_something_else_does_not_work(tiny):
    scores = measured(KEY, tiny, made_method(quiet, access="internals"))
    assert access(scores) == [False, False, True]
    assert scores.reason.startswith("Needs the model's layers; with gradients alone its maps are others, by ")


def test_what_says_that_it_does_not_fit_does_not_work(tiny):
    def fits(model, example):
        if not list(model.parameters()):
            raise CardgenError("the model has no parameters; expected some; mend it")

    scores = measured(KEY, tiny, made_method(probabilities, access="internals", fits=fits))
    assert access(scores) == [False, False, True]
    assert scores.reason == ("Needs the model's layers; with gradients alone it stops: the model has no parameters.")


def test_a_declaration_that_is_too_strict_or_too_lax_is_said(tiny):
    strict = measured(KEY, tiny, made_method(probabilities, access="features"))
    assert strict.reason == (
        "Works on any model that gives outputs. It declares to need features, which was more than it took."
    )
    lax = measured(KEY, tiny, made_method(weights, access="gradients"))
    assert lax.reason.endswith(". It declares to need gradients, which was not enough.")


def test_values_are_the_relative_difference_of_the_maps(tiny):
    def rough(model, inputs, targets, context):
        nudge = 0.0 if list(model.parameters()) else 3e-4
        return inputs * (1 + nudge * torch.arange(1.0, 4.0).view(1, 3, 1, 1))

    scores = measured(KEY, tiny, made_method(rough, access="outputs"))
    first, other = (rough(model, tiny.inputs, None, None).sum(1) for model in (tiny.model, torch.nn.Identity()))
    wanted = [reference.relative_difference(a, b) for a, b in zip(first, other, strict=True)]
    assert scores.values == pytest.approx(wanted, rel=1e-4)
    assert 1e-4 < min(wanted) < max(wanted) < 1e-3
    assert access(scores) == [True, True, True]


def test_one_sample_that_differs_is_enough(tiny):
    def fails_on_one(model, inputs, targets, context):
        odd = (inputs[:, :1, :1, :1] == tiny.inputs[4, 0, 0, 0]).float()
        return inputs + (0.0 if list(model.parameters()) else 1.0) * odd

    assert access(measured(KEY, tiny, made_method(fails_on_one, access="internals"))) == [False, False, True]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ],
)
def test_memory_that_runs_out_says_nothing_of_the_access(tiny, error):
    def hungry(model, inputs, targets, context):
        if not list(model.parameters()):
            raise error
        return inputs

    with pytest.raises(type(error), match=str(error)):
        measured(KEY, tiny, made_method(hungry, access="outputs"))


def test_the_noise_of_the_method_itself_is_allowed_for(tiny):
    runs = iter(range(1000))

    def shaky(model, inputs, targets, context):
        return inputs * (1 + 0.02 * (next(runs) % 2))

    scores = measured(KEY, tiny, made_method(shaky, access="outputs"))
    assert access(scores) == [True, True, True]


@pytest.mark.parametrize(
    ("method", "found"),
    [
        ("rise", [True, True, True]),
        ("noise", [True, True, True]),
        ("vanilla_gradients", [False, True, True]),
        ("integrated_gradients", [False, True, True]),
        ("grad_cam", [False, False, True]),
    ],
)
def test_methods_of_the_registry(tiny, method, found):
    parameters = {k: v for k, v in {"n_masks": 20, "steps": 5}.items() if k in METHODS[method].defaults}
    scores = measure(KEY, *tiny.call, method=method, method_params=parameters)
    assert access(scores) == found
    assert "declares" not in scores.reason


def test_a_black_box_itself(tiny):
    inner = tiny.model
    box = tiny._replace(model=BlackBox(lambda x: inner(x)))
    scores = measure(KEY, *box.call, method="rise", method_params={"n_masks": 20})
    assert access(scores) == [True, True, True]
    assert scores.reason == "Works on any model that gives outputs."


def test_running_out_of_memory_is_no_finding(tiny):
    def greedy(model, inputs, targets, context):
        if not list(model.parameters()):
            raise torch.OutOfMemoryError("no memory left")
        return inputs

    with pytest.raises(torch.OutOfMemoryError):
        measured(KEY, tiny, made_method(greedy, access="internals"))


def test_long_errors_are_cut(tiny):
    def wordy(model, inputs, targets, context):
        if not list(model.parameters()):
            raise RuntimeError("word " * 200 + "\nand another line")
        return inputs

    reason = measured(KEY, tiny, made_method(wordy, access="internals")).reason
    assert len(reason) < 200
    assert "\n" not in reason


def test_own_maps_cannot_be_made_again(tiny):
    with pytest.raises(CardgenError, match="pass method= instead"):
        measure(KEY, *tiny.call, maps=tiny.maps)


def test_any_batch_and_order(tiny):
    def rough(model, inputs, targets, context):
        return inputs * (1 + (0.0 if list(model.parameters()) else 3e-4) * torch.arange(1.0, 4.0).view(1, 3, 1, 1))

    method = made_method(rough, access="outputs")
    every_batch_and_order(lambda rows, batch: measured(KEY, tiny.take(rows), method, batch=batch).values)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        measure(KEY, *tiny.call, method="vanilla_gradients")
