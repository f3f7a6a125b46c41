"""Which layers a masking network reads, and that it reads what they returned."""

import pytest
import torch
from small_models import (
    Pooled,
    Residual,
    Tiny,
    lively,
    seeded,
    small_subject,
    tiny_subject,
    transformer,
    untouched,
    vgg,
)
from torch import nn
from torchvision.models import densenet121, mobilenet_v2, resnet18, vgg11

from cardgen.errors import CardgenError
from cardgen.features import last_features
from cardgen.pyramid import feature_layers, features_and_logits
from cardgen.subjects.networks import SmallCNN


class OneReLU(nn.Module):
    """A network of three resolutions whose only ReLU, a module, runs after every convolution, and once more on a vector."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(a, 4, 3, stride=s, padding=1) for a, s in ((3, 1), (4, 2), (4, 2)))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in self.convs)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.relu(norm(conv(x)))
        return self.head(self.relu(x.mean((2, 3))))


LAYERS = {
    "digit-cnn": (SmallCNN, 64, ["features.layer1.relu", "features.layer3.relu", "features.layer6.relu"]),
    "tiny": (Tiny, None, ["features.relu1", "features.relu2"]),
    "pooled": (Pooled, 16, ["features.relu1", "features.relu2"]),
    "residual": (Residual, 16, ["layers.1"]),
    "vgg": (vgg, 16, ["features.1", "features.4"]),
    "one ReLU": (OneReLU, 16, ["norms.0", "norms.1", "norms.2"]),
    "resnet18": (resnet18, 64, ["layer1.1", "layer2.1", "layer3.1", "layer4.1"]),
    "vgg11": (vgg11, 64, ["features.4", "features.9", "features.14", "features.19"]),
    "mobilenet_v2": (
        mobilenet_v2,
        64,
        ["features.4.conv.0.2", "features.7.conv.0.2", "features.14.conv.0.2", "features.18.2"],
    ),
    "densenet121": (
        densenet121,
        64,
        ["features.transition1.conv", "features.transition2.conv", "features.transition3.conv", "features.norm5"],
    ),
}


def made(name):
    build, side, layers = LAYERS[name]
    shape = (1, 3, side, side) if side else (1, 3, 12, 10)
    return seeded(0, build).eval(), torch.rand(shape, generator=torch.Generator().manual_seed(0)), layers


@pytest.mark.parametrize("name", LAYERS)
def test_the_last_layer_at_each_resolution(name):
    model, example, layers = made(name)
    with untouched(model, example):
        assert feature_layers(model, example) == layers


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "one ReLU"])
def test_the_deepest_are_the_last_features(name):
    model, example, layers = made(name)
    assert layers[-1] == last_features(model, example)


@pytest.mark.parametrize("name", LAYERS)
def test_resolutions_fall(name):
    model, example, layers = made(name)
    features, _ = features_and_logits(model, example, layers)
    areas = [maps.shape[2] * maps.shape[3] for maps in features]
    assert areas == sorted(areas, reverse=True)
    assert len(set(areas)) == len(areas) <= 4


def test_a_decoder_beside_the_classifier_is_left_out():
    class WithDecoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Pooled()
            self.decoder = nn.Conv2d(5, 3, 1)

        def forward(self, x):
            maps = self.inner.features(x)
            self.decoder(nn.functional.interpolate(maps, scale_factor=4))
            return self.inner.head(maps.mean((2, 3)))

    model = seeded(0, WithDecoder).eval()
    assert feature_layers(model, torch.rand(1, 3, 12, 10)) == ["inner.features.relu1", "inner.features.relu2"]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (transformer, "goes on with layers on tokens"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)), "executes no Conv2d"),
    ],
)
def test_models_without_convolutional_features_are_refused(build, words):
    with pytest.raises(CardgenError, match=words):
        feature_layers(seeded(0, build), torch.rand(1, 3, 16, 16))


def test_maps_are_those_that_the_layers_returned():
    # the ReLUs of this network work in place: what norm1 returned is overwritten before the pass ends
    model = lively(seeded(0, Residual))
    inputs = torch.rand(2, 3, 16, 14, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stem = model.stem[1](model.stem[0](inputs))
        wanted = [stem, model.layers(stem.clone().relu())]
        scores = model(inputs)
    with untouched(model, inputs):
        found, given = features_and_logits(model, inputs, ["stem.1", "layers.1"])
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert (wanted[0] < 0).any()
    assert torch.equal(given, scores)


def test_a_module_that_runs_several_times_gives_its_last_maps():
    model, example, _ = made("residual")
    with torch.no_grad():
        found = features_and_logits(model, example, ["layers.0.relu", "layers.0"])[0]
    assert torch.equal(*found)


def test_no_graph_is_kept():
    small = tiny_subject()
    features, scores = features_and_logits(small.model, small.inputs.requires_grad_(), ["features.relu1"])
    assert not features[0].requires_grad
    assert not scores.requires_grad


def test_half_precision_is_read_in_float32():
    small = tiny_subject()
    features, _ = features_and_logits(small.model.bfloat16(), small.inputs.bfloat16(), ["features.relu2"])
    assert features[0].dtype == torch.float32


def test_hooks_are_gone_when_the_model_fails():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            self.conv(x)
            raise RuntimeError("broken")

    model = Broken()
    with untouched(model), pytest.raises(RuntimeError, match="broken"):
        features_and_logits(model, torch.zeros(1, 3, 4, 4), ["conv"])


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (
            "features.conv9",
            "^the model has no layer 'features.conv9'; expected the layers features.conv9 of the model that",
        ),
        ("head", "^layer 'head' gave no feature maps; expected"),
    ],
)
def test_layers_of_another_model(layer, words):
    small = small_subject(lively(seeded(0, Tiny)), 12, 10)
    with untouched(small.model), pytest.raises(CardgenError, match=words):
        features_and_logits(small.model, small.inputs, [layer])
