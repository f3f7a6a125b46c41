"""Maximum sensitivity against its slow reference, by hand, and under wrong versions of itself."""

import numpy as np
import pytest
import torch
from reference import perturbed as reference
from small_methods import made_method, study_of
from small_models import Linear, Small, every_batch_and_order, untouched

from cardgen import explain, measure
from cardgen.errors import CardgenError
from cardgen.metrics import METRICS
from cardgen.perturbations import ball, within
from cardgen.space import Space

EVERYTHING = slice(0, 7)


def moved(small, radius, draws, **options):
    """The perturbed inputs of every draw, as the metric makes them."""
    subject = study_of(small, made_method(lambda model, inputs, *_: inputs)).subject
    return [ball(radius, draw).make(subject, EVERYTHING) for draw in range(draws)]


def expected(small, method, radius=0.02, draws=4):
    before = explain(method, *small.call, reduce=False)
    after = [explain(method, small.model, x, small.targets, reduce=False) for x in moved(small, radius, draws)]
    return [reference.sensitivity(before[i], [one[i] for one in after]) for i in range(7)]


@pytest.mark.parametrize("method", ["vanilla_gradients", "input_x_gradient", "input_magnitude"])
@pytest.mark.parametrize("radius", [0.02, 0.2])
def test_agrees_with_the_reference(tiny, method, radius):
    found = measure("sensitivity_max", *tiny.call, method=method, draws=4, radius=radius)
    assert found.values == pytest.approx(expected(tiny, method, radius), rel=1e-4)
    assert found.valid.all()


def test_by_hand():
    # A(x) = 3 where x is above a half, else 4; x = 0.5 ± 0.01 on two pixels: A = (3, 4), ‖A‖ = 5. In a ball of 0.4 either pixel may
    # change sides, by 1: with both, √2/5; with one, 1/5.
    images = torch.tensor([[[[0.51, 0.49]]]])
    small = Small(Linear([1.0, 1.0]), images, torch.tensor([0]), None, None)
    study = study_of(small, made_method(lambda model, inputs, *_: torch.where(inputs > 0.5, 3.0, 4.0)))
    found = METRICS["sensitivity_max"].measure(study, {"draws": 60, "radius": 0.4}).values
    assert found == pytest.approx([2**0.5 / 5])
    changes = [METRICS["sensitivity_max"].measure(study, {"draws": k, "radius": 0.4}).values[0] for k in range(1, 8)]
    assert set(np.round(changes, 6)) <= set(np.round([0, 1 / 5, 2**0.5 / 5], 6))
    small_ball = METRICS["sensitivity_max"].measure(study, {"draws": 60, "radius": 0.009}).values
    assert small_ball.tolist() == [0]


def test_more_draws_go_on_from_fewer(tiny):
    found = [measure("sensitivity_max", *tiny.call, method="vanilla_gradients", draws=k).values for k in (1, 3, 6)]
    assert (found[0] <= found[1]).all()
    assert (found[1] <= found[2]).all()
    assert (found[0] < found[2]).any()


@pytest.mark.parametrize("method", ["noise", "noise_7", "constant", "centred_gaussian", "planted_truth"])
def test_what_does_not_see_the_image_does_not_change(tiny, method):
    found = measure("sensitivity_max", *tiny.call, method=method, masks=tiny.masks)
    assert found.values.tolist() == [0] * 7
    assert found.valid.all()


def test_the_method_keeps_its_seed(tiny):
    # masks are the same for every draw, so that little is left of RISE's randomness
    calm = measure("sensitivity_max", *tiny.call, method="rise", method_params={"n_masks": 200}, radius=1e-4)
    assert calm.values.max() < 0.01


def test_a_zero_map_has_no_relative_change(tiny):
    def only_some(model, inputs, *_):
        return inputs * (inputs.flatten(1).sum(1) > tiny.inputs.flatten(1).sum(1).median()).view(-1, 1, 1, 1)

    found = METRICS["sensitivity_max"].measure(study_of(tiny, made_method(only_some)), {"draws": 3, "radius": 0.02})
    dark = tiny.inputs.flatten(1).sum(1) <= tiny.inputs.flatten(1).sum(1).median()
    assert found.valid.tolist() == (~dark).tolist()
    assert found.flat.tolist() == dark.tolist()


MUTATIONS = {
    "the mean over draws": lambda before, after: np.mean([reference.sensitivity(before, [one]) for one in after]),
    "over the perturbed norm": lambda before, after: max(reference.sensitivity(one, [before]) for one in after),
    "not relative": lambda before, after: reference.sensitivity(before, after) * before.norm().item(),
    "of the map": lambda before, after: reference.sensitivity(
        before.abs().amax(0), [one.abs().amax(0) for one in after]
    ),
    "divided again at every draw": lambda before, after: reference.sensitivity(before, after) / before.norm().item(),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    before = explain("vanilla_gradients", *tiny.call, reduce=False)
    after = [explain("vanilla_gradients", tiny.model, x, tiny.targets, reduce=False) for x in moved(tiny, 0.2, 4)]
    found = measure("sensitivity_max", *tiny.call, method="vanilla_gradients", draws=4, radius=0.2).values
    wrong = [MUTATIONS[name](before[i].double(), [one[i].double() for one in after]) for i in range(7)]
    assert np.abs(found / wrong - 1).max() > 0.01


class TestBall:
    def test_uniform_within_the_radius(self, tiny):
        grey = tiny._replace(inputs=torch.full((7, 3, 12, 10), 0.5) + torch.arange(7.0).view(7, 1, 1, 1) / 1000)
        found = torch.stack([x - grey.inputs for x in moved(grey, 0.1, 20)]) / 0.1
        assert found.abs().max() <= 1 + 1e-5
        assert found.mean().abs() < 0.01
        assert found.var() == pytest.approx(1 / 3, rel=0.02)
        assert len({x[0, 0, 0, 0].item() for x in found}) == 20, "draws must differ"
        assert len(set(found[0, :, 0, 0, 0].tolist())) == 7, "samples must differ"

    def test_stays_within_the_space(self, tiny):
        edges = tiny._replace(inputs=tiny.inputs.round())
        for x in moved(edges, 0.3, 3):
            assert 0 <= x.min() <= x.max() <= 1
            assert (x != edges.inputs).float().mean() == pytest.approx(0.5, abs=0.05)

    def test_the_radius_is_a_share_of_each_channel_s_range(self, tiny):
        space = Space.normalised((0.5, 0.5, 0.5), (0.5, 0.05, 0.005))
        low, high = space.colour("black", tiny.inputs), space.colour("white", tiny.inputs)
        inputs = low + (0.3 + 0.4 * tiny.inputs) * (high - low)
        subject = study_of(tiny, made_method(lambda model, x, *_: x)).subject
        from dataclasses import replace

        x = ball(0.02, 0).make(replace(subject, inputs=inputs, space=space), EVERYTHING)
        for channel, width in enumerate((2.0, 20.0, 200.0)):
            assert (x - inputs)[:, channel].abs().max() == pytest.approx(0.02 * width, rel=0.02)

    def test_a_sample_outside_the_space_is_not_moved_in(self):
        inputs = torch.tensor([[[[1.2, -0.3, 0.5]]]])
        assert within(inputs + 0.1, inputs, Space()).flatten().tolist() == pytest.approx([1.2, -0.2, 0.6])
        assert within(inputs - 0.1, inputs, Space()).flatten().tolist() == pytest.approx([1.1, -0.3, 0.4])

    def test_a_recipe_is_its_radius_and_draw(self):
        assert ball(0.02, 1) == ball(0.02, 1)
        assert hash(ball(0.02, 1)) == hash(ball(0.02, 1))
        assert len({ball(0.02, 1), ball(0.02, 2), ball(0.03, 1)}) == 3


@pytest.mark.parametrize(
    ("parameters", "said"), [({"draws": 0}, "0 draws and radius 0.02"), ({"radius": 0.0}, "radius 0")]
)
def test_parameters_that_measure_nothing_are_refused(tiny, parameters, said):
    with pytest.raises(CardgenError) as caught:
        measure("sensitivity_max", *tiny.call, method="noise", **parameters)
    assert said in str(caught.value)
    assert str(caught.value).endswith(
        "; expected at least 1 draw and a radius above 0; mend the parameters draws and radius"
    )


def test_own_maps_cannot_be_made_again(tiny):
    with pytest.raises(CardgenError, match="it got maps= only; pass method= instead"):
        measure("sensitivity_max", *tiny.call, maps=tiny.maps)


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        return measure("sensitivity_max", *tiny.take(rows).call, method="grad_cam", draws=3, batch=batch).values

    every_batch_and_order(score, tolerance=1e-5)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        measure("sensitivity_max", *tiny.call, method="vanilla_gradients", draws=2)
