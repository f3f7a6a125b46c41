"""Grad-CAM against its slow reference, class activation maps, and layers that change in place."""

import copy

import pytest
import torch
from reference import methods as reference
from small_models import (
    SHARPNESS,
    Pooled,
    Residual,
    every_batch_and_order,
    lively,
    seeded,
    small_subject,
    untouched,
    vgg,
)
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

from cardgen import explain
from cardgen.errors import CardgenError
from cardgen.features import last_features
from cardgen.maskers import KINDS
from cardgen.methods import METHODS

KEY = "grad_cam"


def halves(model):
    """A float64 network of the tiny kind, cut at its last feature maps."""
    model = reference.exact(model)
    return model.features, lambda maps: SHARPNESS * model.head(maps.flatten(1))


def expected(small, i, target=None):
    return reference.grad_cam(
        *halves(small.model), small.inputs[i], int(small.targets[i]) if target is None else target
    )


def test_agrees_with_the_reference(tiny):
    found = explain(KEY, *tiny.call)
    wanted = torch.stack([expected(tiny, i) for i in range(7)])
    assert wanted.amax() > 0.1
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)
    assert (found >= 0).all()


@pytest.mark.parametrize(
    ("layer", "at"), [("features.relu1", 3), ("features.norm1", 2), ("features.conv1", 1), ("features.norm2", 5)]
)
def test_at_other_layers(tiny, layer, at):
    model = reference.exact(tiny.model)
    rest = lambda maps: SHARPNESS * model.head(model.features[at:](maps).flatten(1))  # noqa: E731
    found = explain(KEY, *tiny.call, layer=layer)
    for i in (0, 3):
        wanted = reference.grad_cam(model.features[:at], rest, tiny.inputs[i], int(tiny.targets[i]))
        torch.testing.assert_close(found[i].double(), wanted, rtol=1e-4, atol=1e-5)


def test_by_hand():
    # One 1 × 1 convolution that copies the channel into A¹ = x and A² = −x, s_0 = Σ_p (2 A¹_p) + Σ_p A²_p·[p = 0]:
    # α_1 = 2, α_2 = ¼ (the mean of 1, 0, 0, 0); L = ReLU(2x − x/4) = 1.75 x, and nothing to upsample on 2 × 2.
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(8, 1, bias=False))
    model[0].weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    model[2].weight.data = torch.tensor([[2.0, 2, 2, 2, 1, 0, 0, 0]])
    x = torch.tensor([[[[1.0, 0.5], [0.0, 0.2]]]])
    torch.testing.assert_close(explain(KEY, model, x, torch.tensor([0])), 1.75 * x[0])
    # and for −s_0 nothing is left
    model[2].weight.data *= -1
    assert torch.equal(explain(KEY, model, x, torch.tensor([0])), torch.zeros(1, 2, 2))


def test_equals_class_activation_maps_where_they_exist():
    # global average pooling and a linear head: CAM = Σ_k w_k A^k, and α_k = w_k / (number of pixels)
    small = small_subject(lively(seeded(2, Pooled)), 12, 10)
    with torch.no_grad():
        maps = small.model.features(small.inputs)
        cam = torch.einsum("nk,nkuv->nuv", small.model.head.weight[small.targets], maps).relu() / maps[0, 0].numel()
    wanted = torch.stack([reference.upsampled(c, 12, 10) for c in cam.double()])
    torch.testing.assert_close(explain(KEY, *small.call).double(), wanted, rtol=1e-4, atol=1e-6)


MUTATIONS = {
    "no ReLU": lambda monkey: monkey.setattr(torch.Tensor, "clamp", lambda self, **_: self),
    "of another class": None,
    "corners aligned": lambda monkey: monkey.setattr(
        reference,
        "upsampled",
        lambda small, h, w: torch.nn.functional.interpolate(
            small[None, None], (h, w), mode="bilinear", align_corners=True
        )[0, 0],
    ),
    "nearest": lambda monkey: monkey.setattr(
        reference, "upsampled", lambda small, h, w: torch.nn.functional.interpolate(small[None, None], (h, w))[0, 0]
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    found = explain(KEY, *tiny.call)
    if MUTATIONS[name]:
        MUTATIONS[name](monkeypatch)
        wrong = torch.stack([expected(tiny, i) for i in range(7)])
    else:
        wrong = torch.stack([expected(tiny, i, (int(tiny.targets[i]) + 1) % 4) for i in range(7)])
    assert (found - wrong).abs().max() > 1e-3


class TestLayer:
    @pytest.mark.parametrize(
        ("build", "place"),
        [
            (lambda: VisionTransformer(32, 8, 2, 2, 32, 64), r"\(conv_proj\).*encoder_layer_0"),
            (lambda: SwinTransformer([4, 4], 8, [1, 1], [1, 1], [4, 4]), r"\(features.0.0\)"),
        ],
    )
    def test_patches_of_a_transformer_are_no_last_features(self, build, place):
        with pytest.raises(CardgenError, match=f"^after its last convolution {place}"):
            last_features(seeded(0, build).eval(), torch.rand(1, 3, 32, 32))

    def test_the_last_features_after_their_activation(self, tiny):
        assert last_features(tiny.model, tiny.inputs[:1]) == "features.relu2"
        assert last_features(lively(seeded(0, vgg)), tiny.inputs[:1]) == "features.4"
        assert last_features(lively(seeded(0, Residual)), tiny.inputs[:1]) == "layers.1"

    def test_a_reused_relu_gives_its_last_output(self):
        small = small_subject(lively(seeded(0, Residual)), 12, 10)
        exact = reference.exact(small.model)
        rest = lambda maps: exact.fc(exact.pool(maps).flatten(1))  # noqa: E731
        found = explain(KEY, *small.call)
        for i in range(7):
            wanted = reference.grad_cam(
                lambda x: exact.layers(exact.stem(x)), rest, small.inputs[i], int(small.targets[i])
            )
            torch.testing.assert_close(found[i].double(), wanted, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("layer", ["features.0", "features.3"])
    def test_before_an_activation_in_place(self, layer):
        """The layer's own output counts, not what the ReLU behind it makes of it."""
        small = small_subject(lively(seeded(0, vgg)), 12, 10)
        apart = copy.deepcopy(small.model)
        for module in apart.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
        found = explain(KEY, *small.call, layer=layer)
        torch.testing.assert_close(found, explain(KEY, apart, *small.call[1:], layer=layer))
        assert found.amax() > 0

    def test_a_model_without_convolutions_is_refused(self):
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        with pytest.raises(CardgenError, match="the model executes no Conv2d"):
            explain(KEY, model, torch.rand(2, 3, 2, 2), torch.tensor([0, 1]))

    def test_an_unknown_layer_is_refused(self, tiny):
        with pytest.raises(CardgenError, match=r"features\.relu3"):
            explain(KEY, *tiny.call, layer="features.relu3")

    def test_a_layer_without_feature_maps_is_refused(self, tiny):
        with pytest.raises(CardgenError, match="head"):
            explain(KEY, *tiny.call, layer="head")


class Decoder(nn.Module):
    """A classifier that also draws its image, and whose stem returns a pair."""

    def __init__(self):
        super().__init__()
        self.stem, self.head, self.decoder = Pair(), nn.Linear(5, 4), nn.Conv2d(5, 3, 3, padding=1)

    def forward(self, x):
        maps, _ = self.stem(x)
        logits = self.head(maps.mean((2, 3)))
        return {"logits": logits, "drawn": self.decoder(maps)}


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.conv(x)), x


@pytest.mark.parametrize(
    "key", [key for key in METHODS if METHODS[key].entry.access == "features" and key not in KINDS]
)
class TestBesideTheClassifier:
    """Layers that have no part in the scores, and such as give something else than feature maps."""

    def test_a_decoder_has_not_the_last_features(self, key):
        small = small_subject(seeded(0, Decoder).eval(), 12, 10, classes=4)
        assert last_features(small.model, small.inputs[:1]) == "stem.relu"
        assert torch.equal(explain(key, *small.call), explain(key, *small.call, layer="stem.relu"))

    def test_named_it_is_refused_where_gradients_are_asked_for(self, key):
        small = small_subject(seeded(0, Decoder).eval(), 12, 10, classes=4)
        if key in ("eigen_cam", "activation_map", "score_cam", "ablation_cam"):
            assert explain(key, *small.call, layer="decoder").isfinite().all()
        else:
            with pytest.raises(CardgenError, match=r"^layer 'decoder' has no part in the model's scores"):
                explain(key, *small.call, layer="decoder")

    def test_a_layer_that_returns_a_pair_is_refused(self, key):
        small = small_subject(seeded(0, Decoder).eval(), 12, 10, classes=4)
        with pytest.raises(CardgenError, match=r"^layer 'stem' has an output of type tuple"):
            explain(key, *small.call, layer="stem")


def test_any_batch_and_order(tiny):
    every_batch_and_order(lambda rows, batch: explain(KEY, *tiny.take(rows).call, batch=batch).numpy())


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        explain(KEY, *tiny.call)
