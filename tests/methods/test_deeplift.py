"""DeepLIFT, over one baseline and over many, against a slow reference, by hand, in its limits, and the models that it refuses."""

import pytest
import torch
import torchvision
from reference import relevance as reference
from small_models import (
    SHARPNESS,
    Linear,
    Residual,
    every_batch_and_order,
    lively,
    seeded,
    small_subject,
    tiny_subject,
    transformer,
    untouched,
    vgg,
)
from torch import nn
from torch.nn import functional as F

from cardgen import explain
from cardgen.draws import generator
from cardgen.errors import CardgenError
from cardgen.forward import prepared
from cardgen.methods import METHODS
from cardgen.space import Space

KEY = "deeplift"
SUBJECTS = {
    "tiny": (tiny_subject, lambda model: reference.tiny(model, SHARPNESS)),
    "vgg": (lambda: small_subject(lively(seeded(0, vgg)), 12, 10), reference.vgg),
    "residual": (lambda: small_subject(lively(seeded(0, Residual)), 16, 14), reference.residual),
}


def expected(name, small, i, colour=0.0, target=None, **options):
    net = SUBJECTS[name][1](small.model)
    target = int(small.targets[i]) if target is None else target
    image = small.inputs[i]
    return torch.from_numpy(reference.deeplift(net, image, torch.full_like(image, colour), target, **options))


def relative(found, wanted):
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("baseline", "colour"), [("black", 0.0), ("grey", 0.5)])
@pytest.mark.parametrize("name", SUBJECTS)
def test_agrees_with_the_reference(name, baseline, colour):
    small = SUBJECTS[name][0]()
    found = explain(KEY, *small.call, reduce=False, baseline=baseline)
    for i in (0, 3):
        assert relative(found[i], expected(name, small, i, colour)) < 1e-4


@pytest.mark.parametrize("name", SUBJECTS)
def test_complete(name):
    small = SUBJECTS[name][0]()
    found = explain(KEY, *small.call, baseline="white")
    with torch.no_grad():
        difference = small.model(small.inputs) - small.model(torch.ones_like(small.inputs))
    wanted = difference.gather(1, small.targets[:, None])[:, 0]
    torch.testing.assert_close(found.sum((1, 2)), wanted, rtol=1e-4, atol=1e-6)


def test_by_hand():
    # Pixels (1, 1.5) over black through z = x₁ + x₂ − 1: z = 1.5 and z̄ = −1, so the ReLU's multiplier is 1.5 / 2.5 = 0.6, doubled by the
    # head. Of max(x₁, x₂) on (1, 3) over (2, 0) the difference 3 − 2 = 1 goes to the place of the 3.
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1, bias=False))
    model[1].weight.data, model[1].bias.data = torch.ones(1, 2), torch.tensor([-1.0])
    model[3].weight.data.fill_(2)
    space = Space((0.0,), (2.0,), (1.0,))
    x = torch.tensor([[[[1.0, 1.5]]]])
    found = explain(KEY, model, x, torch.tensor([0]), reduce=False, space=space)
    torch.testing.assert_close(found, torch.tensor([[[[1.2, 1.8]]]]))
    pool = nn.Sequential(nn.MaxPool2d((1, 2)), nn.Flatten())
    x = torch.tensor([[[[1.0, 3.0]]]])
    space = Space((2.0,), (4.0,), (3.0,))
    outside = torch.tensor([[[[2.0, 3.0]]]])
    assert explain(KEY, pool, outside, torch.tensor([0]), reduce=False, space=space).tolist() == [[[[0.0, 1.0]]]]


def test_on_a_linear_model_gradient_times_difference():
    weights = torch.tensor([[[1.0, -2.0], [3.0, -4.0]]])
    x = torch.rand(3, 1, 2, 2)
    found = explain(KEY, Linear(weights), x, torch.zeros(3, dtype=torch.int64), reduce=False, baseline="white")
    torch.testing.assert_close(found, weights * (x - 1))


def test_where_nothing_differs_the_derivative_counts():
    """The image is the baseline but for one pixel: most units do not differ at all."""
    small = tiny_subject()
    inputs = torch.zeros_like(small.inputs)
    inputs[:, 0, 5, 5] = 1
    small = small._replace(inputs=inputs)
    found = explain(KEY, *small.call, reduce=False)
    assert relative(found[2], expected("tiny", small, 2)) < 1e-4
    smooth = nn.Sequential(nn.Flatten(), nn.GELU(), nn.Linear(4, 1))
    x = torch.full((1, 1, 2, 2), 1e-8)
    wanted = 0.5 * smooth[2].weight.detach().view(1, 1, 2, 2) * 1e-8
    torch.testing.assert_close(explain(KEY, smooth, x, torch.tensor([0]), reduce=False), wanted, rtol=1e-4, atol=0)


MUTATIONS = {
    "of another class": {"target": 0},
    "from grey": {"colour": 0.5},
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(name):
    small = SUBJECTS["vgg"][0]()
    found = explain(KEY, *small.call, reduce=False)[3]
    assert relative(found, expected("vgg", small, 3, **MUTATIONS[name])) > 0.1


def test_the_winner_of_the_image_alone_would_be_seen():
    small = SUBJECTS["vgg"][0]()
    found = explain(KEY, *small.call, reduce=False, baseline="white")[3]
    assert relative(found, expected("vgg", small, 3, 1.0, pooled="image")) > 0.05


class Plain(nn.Module):
    """Activations and pooling by functions, one of them in place, and a shortcut around it."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        x = self.conv(x) - 0.1
        nn.functional.elu(x, inplace=True)
        x = x + F.gelu(x).sigmoid_()
        return self.head(F.adaptive_max_pool2d(torch.relu_(F.max_pool2d(x, 3, 2, 1)), 1).flatten(1))


def test_functions_without_modules():
    small = small_subject(seeded(0, Plain).eval(), 12, 10)
    found = explain(KEY, *small.call).sum((1, 2))
    with torch.no_grad():
        difference = small.model(small.inputs) - small.model(torch.zeros_like(small.inputs))
    torch.testing.assert_close(found, difference.gather(1, small.targets[:, None])[:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_captum_by_itself_passes_functions_by():
    from captum.attr import DeepLift

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(F.relu(self.conv(x)).mean((2, 3)))

    small = small_subject(seeded(0, Functional).eval(), 12, 10)
    found = DeepLift(small.model).attribute(small.inputs.clone().requires_grad_(), target=small.targets)
    total = found.sum((1, 2, 3))
    ours = explain(KEY, *small.call).sum((1, 2))
    assert ((total - ours).abs() > 0.1 * ours.abs()).any()


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.gate, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.head((self.conv(x) * self.gate(x).sigmoid()).mean((2, 3)))


def statistics_of_the_batch():
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


HAS_NO = "^DeepLIFT has no rule for "
REFUSED = {
    "transformer": (transformer, 16, HAS_NO + r"layer_norm in LayerNorm \(.*\); expected linear layers"),
    "gate": (Gated, 16, HAS_NO + "mul of two parts that both depend on the image in the model itself"),
    "softmax": (lambda: nn.Sequential(nn.Flatten(), nn.Softmax(1)), 4, HAS_NO + r"softmax in Softmax \(1\)"),
    "statistics of the batch": (statistics_of_the_batch, 16, HAS_NO + r"batch_norm in BatchNorm2d \(1\)"),
}


@pytest.mark.parametrize("key", ["deeplift", "deeplift_shap"])
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, key):
    build, side, message = REFUSED[name]
    model, example = seeded(0, build).eval(), torch.rand(1, 3, side, side)
    with untouched(model), prepared(model), pytest.raises(CardgenError, match=message):
        METHODS[key].fits(model, example)


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet"])
def test_networks_of_torchvision(name):
    options = {"init_weights": False} if name == "googlenet" else {}
    build = lambda: getattr(torchvision.models, name)(weights=None, num_classes=5, **options)  # noqa: E731
    model, example = seeded(0, build).eval(), torch.rand(1, 3, 64, 64)
    with untouched(model), prepared(model):
        METHODS[KEY].fits(model, example)


def test_any_batch_and_order(tiny):
    every_batch_and_order(lambda rows, batch: explain(KEY, *tiny.take(rows).call, batch=batch).numpy())


def test_nothing_is_touched():
    small = SUBJECTS["residual"][0]()
    small.model.train()
    with untouched(small.model, small.inputs, small.targets):
        explain(KEY, *small.call)


class TestManyBaselines:
    KEY = "deeplift_shap"

    def colours(self, count, seed=0):
        source = generator(seed, self.KEY)
        return [torch.rand(3, 1, 1, generator=source) for _ in range(count)]

    def test_the_mean_over_plain_colours(self, tiny):
        found = explain(self.KEY, *tiny.call, reduce=False, n_samples=3)
        net = reference.tiny(tiny.model, SHARPNESS)
        for i in (0, 3):
            image = tiny.inputs[i]
            each = [
                torch.from_numpy(reference.deeplift(net, image, colour.expand_as(image), int(tiny.targets[i])))
                for colour in self.colours(3)
            ]
            assert relative(found[i], sum(each) / 3) < 1e-4
            assert relative(found[i], sum(each[:2]) / 2) > 0.01

    def test_the_sum_is_the_difference_from_the_mean_score(self, tiny):
        found = explain(self.KEY, *tiny.call, n_samples=5).sum((1, 2))
        with torch.no_grad():
            baselines = torch.stack([colour.expand(3, 12, 10) for colour in self.colours(5)])
            wanted = (tiny.model(tiny.inputs) - tiny.model(baselines).mean(0)).gather(1, tiny.targets[:, None])[:, 0]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)

    def test_colours_lie_in_the_space(self):
        weights = torch.ones(1, 1, 2)
        low, high = -3.0, 5.0
        found = explain(
            self.KEY,
            Linear(weights),
            torch.zeros(1, 1, 1, 2),
            torch.tensor([0]),
            reduce=False,
            n_samples=400,
            space=Space((low,), (high,), (1.0,)),
        )
        # on Σ x the attribution is x − x̄, here −1 on average, with a standard error of 8 / √12 / √400 = 0.12
        assert found.flatten().tolist() == pytest.approx([-1.0, -1.0], abs=0.4)

    def test_any_batch_and_order(self, tiny):
        every_batch_and_order(
            lambda rows, batch: explain(self.KEY, *tiny.take(rows).call, batch=batch, n_samples=3).numpy()
        )

    def test_no_baselines_are_refused(self, tiny):
        with pytest.raises(CardgenError, match="deeplift_shap: n_samples is 0; expected at least 1"):
            explain(self.KEY, *tiny.call, n_samples=0)
