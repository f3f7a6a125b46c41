"""Input invariance by hand, on methods that read the input's values and on those that do not, and on networks that a bias cannot mend."""

import numpy as np
import pytest
import torch
from homes import at_home, masking
from reference import maps as reference
from small_methods import made_method, measured, study_of
from small_models import Linear, Pooled, Residual, every_batch_and_order, lively, seeded, small_subject, untouched
from torch import nn

from cardgen import explain, measure
from cardgen.budgets import CORE
from cardgen.errors import CardgenError
from cardgen.metrics import METRICS
from cardgen.shift import SHIFTS, MovedSpace, Shifted, shifted
from cardgen.space import UNNORMALISED, Space
from cardgen.subjects.black_box import BlackBox
from cardgen.thresholds import DEFAULTS
from cardgen.verdicts import RULES

KEY = "input_invariance"
FEW = {"steps": 5, "n_masks": 8, "n_samples": 3, "stride": 0.125}


def by_input(model, inputs, targets, context):
    return inputs * torch.tensor([1.0, -2.0, 3.0]).view(3, 1, 1) + 1


METHOD = made_method(by_input)


def differences(small):
    """A row a sample, a column a shift: ‖A₁(x) − A₂(x + m)‖ / ‖A₁(x)‖ of `by_input`."""
    weights = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64).view(3, 1, 1)
    ms = [SHIFTS[name](UNNORMALISED, small.inputs).double() for name in ("constant", "image")]
    return [[(weights * x + 1, weights * (x + m) + 1) for m in ms] for x in small.inputs.double()]


def errors(rows):
    return np.array(
        [[reference.relative_difference(a.flatten(0, -2), b.flatten(0, -2)) for a, b in row] for row in rows]
    )


def test_agrees_with_the_reference(tiny):
    scores = measured(KEY, tiny, METHOD)
    found = errors(differences(tiny))
    assert scores.values == pytest.approx(found.max(1), rel=1e-4)
    assert scores.reported["constant"] == pytest.approx(np.median(found[:, 0]), rel=0.2)
    assert scores.valid.all()


MUTATIONS = {
    "the mean over shifts": lambda rows: errors(rows).mean(1),
    "the image alone": lambda rows: errors(rows)[:, 1],
    "over the norm of the other": lambda rows: errors([[(b, a) for a, b in row] for row in rows]).max(1),
    "of maps": lambda rows: errors([[(a.sum(0), b.sum(0)) for a, b in row] for row in rows]).max(1),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    assert np.abs(measured(KEY, tiny, METHOD).values - MUTATIONS[name](differences(tiny))).max() > 1e-3


def test_by_hand():
    # f = 3x₁ + 4x₂ at (1, 0.5): input × gradient is (3, 2). Shifted by −1 it is (0, −2), off by (3, 4): 5/√13. The image of a shift
    # is smaller than the range everywhere, so the constant decides.
    inputs = torch.tensor([[[[1.0, 0.5]]]])
    found = measure(KEY, Linear([3.0, 4.0]), inputs, torch.tensor([0]), method="input_x_gradient")
    assert found.values == pytest.approx([5 / 13**0.5], rel=1e-5)
    assert found.reason.startswith("Median difference by shift: constant 1.4, image 0.") or "constant" in found.reason


@pytest.mark.parametrize(
    "method",
    [*(key for key in CORE if key != "input_x_gradient"), "gradient_shap", "deeplift_shap"],
)
@pytest.mark.parametrize("network", [Pooled, Residual])
def test_what_sees_the_image_as_it_is_meant_stays(method, network):
    # both networks pad with zeros, and the residual one begins with strided windows; a bias could take in no shift at their borders
    small = small_subject(lively(seeded(0, network)), 12, 10)
    from cardgen.methods import METHODS

    few = {k: v for k, v in FEW.items() if k in METHODS[method].defaults}
    found = measure(KEY, *small.call, method=method, method_params=few)
    assert found.valid.any()
    assert found.values[found.valid].max() < 1e-3
    decision = RULES["axiom"](found, {}, METRICS[KEY].entry, DEFAULTS, 0)
    assert decision.estimate == pytest.approx(found.valid.sum() / (found.valid | found.flat).sum())


@pytest.mark.parametrize(("baseline", "invariant"), [("black", True), ("white", True), ("mean", True), ("zero", False)])
def test_baselines_that_move_along(tiny, baseline, invariant):
    found = measure(
        KEY, *tiny.call, method="integrated_gradients", method_params={"steps": 5, "baseline": baseline}
    ).reported
    assert all((value < 1e-3) == invariant for value in found.values())


def test_a_blurred_baseline_moves_with_a_constant_only():
    small = small_subject(lively(seeded(0, Pooled)), 12, 10)
    found = measure(
        KEY, *small.call, method="integrated_gradients", method_params={"steps": 5, "baseline": "blur"}
    ).reported
    assert found["constant"] < 1e-3 < 0.02 < found["image"]


@pytest.mark.parametrize("method", ["noise", "constant", "input_magnitude", "planted_truth"])
def test_controls_stay(tiny, method):
    found = measure(KEY, *tiny.call, method=method, masks=tiny.masks)
    assert found.values.max() < 1e-5


def test_a_layer_that_was_named_is_found_in_the_shifted_network(tiny):
    for layer in ("features.relu1", "features.conv2"):
        assert measure(KEY, *tiny.call, method="grad_cam", layer=layer).values.max() < 1e-3


@pytest.mark.parametrize("method", ["real_time_saliency", "phang_masker"])
def test_the_layers_that_a_masking_network_reads_are_found_in_the_shifted_network(method):
    small = at_home(method)
    siblings = {f"masker-{method}": masking(method, small)}
    found = measure(KEY, *small.call, method=method, siblings=siblings)
    assert found.values.max() < 1e-3
    # the network is given back with the names it had
    assert measure("deletion", *small.call, method=method, siblings=siblings).valid.all()


def test_a_black_box_is_shifted_as_well(tiny):
    def function(x):
        assert x.min() > -1e-5
        assert x.max() < 1 + 1e-5
        return tiny.model.eval()(x)

    small = tiny._replace(model=BlackBox(function))
    assert measure(KEY, *small.call, method="rise", method_params={"n_masks": 8}).values.max() < 1e-3


def test_the_space_moves():
    inputs = torch.rand(2, 3, 6, 5)
    space = Space((0.0,), (1.0, 2.0, 4.0), (0.5,))
    for name, shift in SHIFTS.items():
        moved, by = MovedSpace(space.low, space.high, space.mean, shift), shift(space, inputs)
        for colour in ("black", "white", "grey", "mean"):
            expected = (space.colour(colour, inputs) + by).expand(3, 6, 5)
            torch.testing.assert_close(moved.colour(colour, inputs).expand(3, 6, 5), expected)
        assert moved.colour("zero", inputs).abs().max() == 0
        assert torch.equal(moved.range(inputs), space.range(inputs))
        moved.check(space.range(inputs) * inputs + by)
        with pytest.raises(CardgenError):
            moved.check(space.range(inputs) * inputs + by + 5)
        assert shifted(name, space).name == ("shifted", name)


def test_the_shift_is_one_for_all_samples_and_never_none(tiny):
    for shift in SHIFTS.values():
        by = shift(UNNORMALISED, tiny.inputs)
        assert torch.equal(by, shift(UNNORMALISED, tiny.inputs[3:4]))
        assert 0.5 < by.abs().max() <= 1
    assert SHIFTS["image"](UNNORMALISED, tiny.inputs).flatten(1).std(1).min() > 0.2


def test_the_network_takes_the_shift_back(tiny):
    model = tiny.model.eval()
    with torch.no_grad():
        for shift in SHIFTS.values():
            by = shift(UNNORMALISED, tiny.inputs)
            moved = Shifted(model, by)(tiny.inputs + by)
            torch.testing.assert_close(moved, model(tiny.inputs), rtol=1e-4, atol=1e-4)
            assert (model(tiny.inputs + by) - moved).abs().max() > 0.1


class Coarse(nn.Module):
    """Looks at the 22nd bit of its input, as half precision would at less."""

    def forward(self, x):
        return torch.stack([(x * 2**24 % 4).mean((1, 2, 3)), x.mean((1, 2, 3))], 1)


def test_a_network_that_sees_rounding_is_refused(tiny):
    small = tiny._replace(model=Coarse(), targets=tiny.targets % 2)
    with pytest.raises(CardgenError) as caught:
        measure(KEY, *small.call, method="noise")
    assert str(caught.value).startswith("logits differ by ")
    assert str(caught.value).endswith(
        " once a shift of the input is added and taken back; expected the same within 1e-4 of the largest, as in float32; "
        "leave the metric out"
    )
    with pytest.raises(CardgenError, match="logits differ by"):
        METRICS[KEY].fits(small.model, small.inputs[:1])
    METRICS[KEY].fits(tiny.model.eval(), tiny.inputs[:1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_before_anything_is_measured(tiny, dtype):
    with pytest.raises(
        CardgenError, match=r"^a shift of the input that is taken back leaves its rounding in half precision;"
    ):
        METRICS[KEY].fits(tiny.model.to(dtype), tiny.inputs[:1].to(dtype))


def test_a_method_that_refuses_the_twin_depends_on_how_its_input_is_written(tiny):
    def picky(model, inputs, targets, context):
        if isinstance(model, Shifted):
            raise CardgenError("no; expected another; give it")
        return inputs

    found = measured(KEY, tiny, made_method(picky))
    assert found.values.tolist() == [1.0] * 7
    assert found.reported == {"constant": "refused: no", "image": "refused: no"}
    assert found.reason == "Median difference by shift: constant (refused: no), image (refused: no)."


def test_zero_attributions_are_neither_invariant_nor_not(tiny):
    scores = measured(KEY, tiny, made_method(lambda model, inputs, *_: 0 * inputs))
    assert not scores.valid.any()
    assert scores.flat.all()


def test_the_original_is_explained_once_for_both(tiny):
    seen = []
    method = made_method(lambda model, inputs, *_: seen.append(isinstance(model, Shifted)) or inputs)
    study = study_of(tiny, method)
    METRICS[KEY].measure(study, {})
    assert (seen.count(False), seen.count(True)) == (1, 2)


def test_own_maps_cannot_be_made_again(tiny):
    with pytest.raises(CardgenError, match="pass method= instead"):
        measure(KEY, *tiny.call, maps=tiny.maps)


def test_any_batch_and_order(tiny):
    def values(rows, batch):
        return measure(KEY, *tiny.take(rows).call, method="input_x_gradient", batch=batch).values

    every_batch_and_order(values, tolerance=1e-5)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        measure(KEY, *tiny.call, method="grad_cam")
        explain("grad_cam", *tiny.call)
