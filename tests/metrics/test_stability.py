"""Stability: its search against a slow one, by hand where the worst is known, and the gradients that it follows."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from homes import at_home, home, refusal
from reference import perturbed as reference
from small_methods import made_method, study_of
from small_models import (
    Linear,
    Residual,
    Small,
    Tiny,
    every_batch_and_order,
    lively,
    seeded,
    small_subject,
    untouched,
    vgg,
)
from torch import nn

from cardgen import measure
from cardgen.ascent import pulled
from cardgen.errors import CardgenError
from cardgen.methods import METHODS, Explainer
from cardgen.metrics import METRICS
from cardgen.perturbations import ball, corner
from cardgen.study import Study

KEY = "stability"
EVERYTHING = slice(0, 7)
CHEAP = {"steps": 5, "n_samples": 3, "n_masks": 8}
WITH_TERMS = [key for key in METHODS if METHODS[key].terms]


def cubed(model, inputs, *_):
    return (inputs - 0.4) ** 3 + 0.2 * torch.sin(60 * inputs)


def slope(x):
    return 3 * (x - 0.4) ** 2 + 12 * torch.cos(60 * x)


METHOD = made_method(cubed, terms=lambda *given: [cubed(*given)])


def few(key):
    return {name: value for name, value in CHEAP.items() if name in METHODS[key].defaults}


def score(small, method, draws=6, radius=0.02):
    return METRICS[KEY].measure(study_of(small, method), {"draws": draws, "radius": radius})


def searched(small, radius, draws):
    """The slow search, which begins with the uniform draws."""
    subject = study_of(small, METHOD).subject
    points = [[make(radius, k).make(subject, EVERYTHING).double() for k in range(draws)] for make in (ball, corner)]
    found = []
    for i, image in enumerate(small.inputs.double()):
        before = cubed(None, image)
        uniform = reference.sensitivity(before, [cubed(None, x[i]) for x in points[0]])
        climbed = reference.ascent(image, [x[i] for x in points[1]], radius, lambda x: cubed(None, x), slope)
        found.append((uniform, climbed))
    return np.array(found)


class Certain(nn.Module):
    """Says the first class whatever it sees."""

    def forward(self, x):
        return torch.stack([1 + 0 * x.sum((1, 2, 3)), 0 * x.sum((1, 2, 3))], 1)


@pytest.mark.parametrize("radius", [0.02, 0.1])
def test_the_search_agrees_with_the_reference(tiny, radius):
    certain = tiny._replace(model=Certain(), targets=torch.zeros(7, dtype=torch.int64))
    found = score(certain, METHOD, 6, radius)
    expected = searched(certain, radius, 6)
    assert found.values == pytest.approx(expected.max(1), rel=1e-3)
    assert (expected[:, 1] > expected[:, 0]).any()
    assert found.reported["with_gradient"] == 1.0


def test_by_hand():
    # |grey − 0.5| moves by at most the radius in every pixel, where all channels move away from grey: 0.02·√4 / ‖A‖ with A = 0.2
    # everywhere: 0.1. One corner and one step find it; corners alone do not.
    small = Small(Linear(torch.ones(3, 2, 2)), torch.full((1, 3, 2, 2), 0.7), torch.tensor([0]), None, None)

    def magnitude(model, inputs, *_):
        return (inputs.mean(1, keepdim=True) - 0.5).abs()

    method = made_method(magnitude, terms=lambda *given: [magnitude(*given)])
    assert score(small, method, 2).values == pytest.approx([0.1], rel=1e-4)


def test_the_yardstick_is_searched_as_what_has_no_gradient_is(tiny):
    # climbing, it would come further than corners bring a method that cannot be differentiated
    assert METHODS["input_magnitude"].terms is None


class Attentive(nn.Module):
    """Patches that attend to each other through the fused kernel, which has no second derivative."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1)).exp()


def test_attention_can_be_climbed():
    small = small_subject(seeded(0, Attentive).eval(), 12, 12)
    found = measure(KEY, *small.call, method="input_x_gradient", draws=4)
    assert found.reported["with_gradient"] == 1.0


def test_what_has_no_second_derivative_is_searched_by_corners(tiny):
    def terms(model, inputs, *_):
        raise RuntimeError("derivative for aten::whatever is not implemented")

    found = score(tiny, made_method(cubed, terms=terms), 4)
    assert found.reported["with_gradient"] == 0.0
    np.testing.assert_array_equal(found.values, score(tiny, made_method(cubed), 4).values)
    with pytest.raises(RuntimeError, match="out of memory"):
        score(tiny, made_method(cubed, terms=lambda *_: out_of_memory()), 4)


def out_of_memory():
    raise RuntimeError("CUDA out of memory")


def test_a_blurred_baseline_can_be_climbed(tiny):
    options = {"method": "integrated_gradients", "method_params": {"steps": 4, "baseline": "blur"}, "draws": 4}
    small = small_subject(tiny.model, 12, 10)
    assert measure(KEY, *small.call, **options).reported["with_gradient"] == 1.0


def test_no_less_than_what_it_begins_with(tiny):
    for method in ("vanilla_gradients", "grad_cam", "guided_backprop", "occlusion"):
        options = {"method": method, "draws": 4, "radius": 0.01}
        found, other = measure(KEY, *tiny.call, **options), measure("sensitivity_max", *tiny.call, **options)
        assert found.reported["flipped"] == 0
        assert (found.values >= other.values).all()
        assert (found.values > other.values).any()
        assert found.reported["times_random"] >= 1


def test_more_calls_go_on_from_fewer(tiny):
    found = [measure(KEY, *tiny.call, method="grad_cam", draws=k, radius=0.005).values for k in (1, 2, 3, 5)]
    assert all((one <= other).all() for one, other in pairwise(found))
    assert (found[0] < found[-1]).any()


def test_gradients_find_more_than_corners(tiny):
    with_terms = METHODS["grad_cam"]
    without = made_method(with_terms.function, access="features")
    found, corners = (score(tiny, method, 8, 0.01).values for method in (with_terms, without))
    seen = corners > 0
    assert np.median(found[seen] / corners[seen]) > 1.2


def test_slopes_of_a_network_linear_in_pieces_have_no_gradient(tiny):
    for method, share in (("vanilla_gradients", 0.0), ("smoothgrad", 0.0), ("input_x_gradient", 1.0)):
        found = measure(KEY, *tiny.call, method=method, method_params=few(method), draws=4)
        assert found.reported["with_gradient"] == share
    corners = score(tiny, made_method(METHODS["vanilla_gradients"].function), 4)
    assert measure(KEY, *tiny.call, method="vanilla_gradients", draws=4).values == pytest.approx(
        corners.values, rel=1e-5
    )


def smooth():
    """A network without kinks."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 5, 3, padding=1), nn.Tanh(), Head())


class Head(nn.Module):
    def forward(self, x):
        return 5 * x[:, :4].square().mean((2, 3))


NETWORKS = {"tiny": lambda: lively(seeded(0, Tiny)), "smooth": lambda: seeded(0, smooth)}
NETWORKS |= {"residual": lambda: lively(seeded(0, lambda: Residual(4))), "vgg": lambda: seeded(0, lambda: vgg(4))}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("key", WITH_TERMS)
def test_terms_sum_to_the_attributions(key, network):
    small = small_subject(NETWORKS[network](), 12, 10)
    if refusal(key, small):
        if home(key) == "tiny" or network != "tiny":
            pytest.skip("another network is its home")
        small = at_home(key)
    study = study_of(small, METHODS[key], **few(key))
    with study.subject.open():
        expected = study.attributions()
        context = study.subject.context(EVERYTHING, 0, study.method)
        terms = METHODS[key].terms(
            small.model, small.inputs.clone().requires_grad_(), small.targets, context, **study.parameters
        )
        found = sum(term.detach() for term in terms)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("key", WITH_TERMS)
def test_the_gradient_is_that_of_finite_differences(key):
    small = small_subject(NETWORKS["smooth"](), 8, 8)
    small = at_home(key) if refusal(key, small) else small
    small = small._replace(model=small.model.double(), inputs=small.inputs.double())
    study = study_of(small, METHODS[key], batch=3, **few(key))
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(small.inputs.shape, generator=generator, dtype=torch.float64)
    with study.subject.open():
        push = torch.randn(study.attributions().shape, generator=generator)
        found = pulled(study, EVERYTHING, small.inputs, push)
        context = study.subject.context(EVERYTHING, 0, study.method)

        def value(step):
            inputs = (small.inputs + step * direction).requires_grad_()
            terms = METHODS[key].terms(small.model, inputs, small.targets, context, **study.parameters)
            return (sum(term.detach().double() for term in terms) * push).flatten(1).sum(1)

        expected = (value(1e-3) - value(-1e-3)) / 2e-3
    assert found.abs().max() > 0
    assert (found * direction).flatten(1).sum(1).tolist() == pytest.approx(expected.tolist(), rel=0.03, abs=1e-3)


def test_points_that_change_the_prediction_do_not_count():
    # the class changes where x leaves [0.495, 0.505]: no point of the ball's corners stays
    class Narrow(nn.Module):
        def forward(self, x):
            inside = ((x - 0.5).abs() < 0.005).all(3).all(2).all(1).float()
            return torch.stack([inside, 1 - inside], 1)

    small = Small(Narrow(), torch.full((1, 1, 4, 4), 0.5), torch.tensor([0]), None, None)
    found = score(small, METHOD, 4)
    assert found.valid.tolist() == [False]
    assert found.reported["flipped"] == 8


def test_corners(tiny):
    subject = study_of(tiny._replace(inputs=torch.full((7, 3, 16, 16), 0.5), masks=None), METHOD).subject
    for draw, cells in enumerate((4, 8, 16, 4)):
        found = corner(0.1, draw).make(subject, EVERYTHING) - 0.5
        assert found.abs().allclose(torch.tensor(0.1))
        side = 16 // cells
        assert (found.unfold(2, side, side).unfold(3, side, side).flatten(4).std(4, unbiased=False) < 1e-6).all()
        assert found.mean().abs() < 0.06
    assert len({corner(0.1, 1), corner(0.1, 1), corner(0.1, 2), corner(0.2, 1)}) == 3


def test_the_points_of_sensitivity_max_are_not_explained_again(tiny):
    seen = []
    method = made_method(lambda model, x, *_: seen.append(len(x)) or x)
    study = study_of(tiny, method)
    METRICS["sensitivity_max"].measure(study, {"draws": 5, "radius": 0.02})
    assert sum(seen) == 7 * 6
    METRICS[KEY].measure(study, {"draws": 5, "radius": 0.02})
    assert sum(seen) == 7 * 11


@pytest.mark.parametrize("method", ["noise", "noise_7", "constant", "centred_gaussian", "planted_truth"])
def test_what_does_not_see_the_image_does_not_change(tiny, method):
    assert measure(KEY, *tiny.call, method=method, masks=tiny.masks, draws=3).values.tolist() == [0] * 7


@pytest.mark.parametrize("key", ["input_x_gradient", "occlusion"])
def test_passes(key, tiny):
    study = Study(study_of(tiny, METHOD).subject, 7, METHODS[key], METHODS[key].parameters({}))
    found = METRICS[KEY].measure(study, {"draws": 5, "radius": 0.02}).passes
    assert found == METRICS[KEY].passes(7, Explainer(study.method, study.parameters), {"draws": 5})


@pytest.mark.parametrize(
    ("parameters", "said"), [({"draws": 0}, "0 draws and radius 0.02"), ({"radius": 0.0}, "10 draws and radius 0")]
)
def test_parameters_that_measure_nothing_are_refused(tiny, parameters, said):
    with pytest.raises(CardgenError) as caught:
        measure(KEY, *tiny.call, method="noise", **parameters)
    assert str(caught.value) == (
        f"stability with {said}; expected at least 1 draw and a radius above 0; mend the parameters draws and radius"
    )


@pytest.mark.parametrize("method", ["grad_cam", "input_x_gradient", "edges"])
def test_any_batch_and_order(tiny, method):
    def values(rows, batch):
        return measure(KEY, *tiny.take(rows).call, method=method, draws=4, batch=batch).values

    every_batch_and_order(values, tolerance=1e-5)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        measure(KEY, *tiny.call, method="grad_cam", draws=2)
