"""Networks that compute the same function: they do, they differ in what they should, and the original is left alone."""

import copy

import pytest
import torch
import torchvision
from small_models import Linear, Residual, Tiny, lively, seeded, untouched, vgg
from torch import nn

from cardgen.equivalents import REWRITES, Difference, folded_batch_norms, permuted_channels, rewritten_relus
from cardgen.errors import CardgenError
from cardgen.subjects.networks import SmallCNN

NETWORKS = {
    "tiny": (Tiny, 12, 10),
    "residual": (Residual, 16, 14),
    "vgg": (vgg, 12, 10),
    "small-cnn": (SmallCNN, 64, 64),
    "resnet18": (lambda: torchvision.models.resnet18(weights=None), 64, 64),
    "mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(weights=None), 64, 64),
    "shufflenet": (lambda: torchvision.models.shufflenet_v2_x0_5(weights=None), 64, 64),
    "swin": (lambda: torchvision.models.swin_t(weights=None), 64, 64),
}
NOT = {
    ("vgg", "folded_batch_norms"): "no batch norm directly after a convolution or linear layer",
    ("swin", "folded_batch_norms"): "no batch norm directly after a convolution or linear layer",
    ("swin", "rewritten_relus"): "no nn.ReLU module that runs",
    ("mobilenet_v2", "rewritten_relus"): "no nn.ReLU module that runs",
}


def network(name):
    build, height, width = NETWORKS[name]
    model = lively(seeded(0, build))
    return model, torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(1))


def gradient(model, inputs):
    inputs = inputs.clone().requires_grad_()
    return torch.autograd.grad(model(inputs)[:, 1].sum(), inputs)[0]


def changed(model, other):
    """Names of weights that are others, and of modules of another type."""
    mine, its = model.state_dict(), other.state_dict()
    weights = {k for k in mine if k not in its or not torch.equal(mine[k], its[k])}
    return weights | {k for k, m in other.named_modules() if type(m) is not type(model.get_submodule(k))}


@pytest.mark.parametrize("rewrite", REWRITES)
@pytest.mark.parametrize("name", NETWORKS)
class TestEach:
    def test_the_same_function_in_another_way(self, name, rewrite):
        model, inputs = network(name)
        if (name, rewrite) in NOT:
            with pytest.raises(CardgenError, match=f"^{NOT[name, rewrite]}; expected one at least to "):
                REWRITES[rewrite](model, inputs[:1])
            return
        with untouched(model, inputs):
            other = REWRITES[rewrite](model, inputs[:1])
        assert len(changed(model, other)) > 1
        assert dict(other.named_modules()).keys() == dict(model.named_modules()).keys()
        with torch.no_grad():
            torch.testing.assert_close(other(inputs), model(inputs), rtol=1e-4, atol=1e-5)
        mine, its = gradient(model, inputs), gradient(other, inputs)
        assert (mine - its).norm() < 1e-3 * mine.norm()


def test_vgg_with_batch_norm():
    # its classifier takes each channel as 7 × 7 inputs in a row
    model = lively(seeded(0, lambda: torchvision.models.VGG(torchvision.models.vgg.make_layers([4, "M", 6], True), 5)))
    model.classifier[0] = nn.Linear(6 * 49, 32)
    model.classifier[3] = nn.Linear(32, 32)
    model.classifier[6] = nn.Linear(32, 5)
    inputs = torch.rand(3, 3, 64, 64)
    for name, rewrite in REWRITES.items():
        other = rewrite(model, inputs[:1])
        with torch.no_grad():
            torch.testing.assert_close(other(inputs), model(inputs), rtol=1e-4, atol=1e-5)
        assert changed(model, other), name
    permuted = permuted_channels(model, inputs[:1])
    assert "classifier.0.weight" in changed(model, permuted)


class TestFolding:
    def test_by_hand(self):
        # weight 2, no bias; mean 1, variance 3, ε 1, γ 4, β 5: weight 2·4/√(3 + 1) = 4, bias (0 − 1)·4/2 + 5 = 3
        model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=1.0), nn.Flatten()).eval()
        for tensor, value in zip(
            (model[0].weight, model[1].running_mean, model[1].running_var, model[1].weight, model[1].bias),
            (2.0, 1.0, 3.0, 4.0, 5.0),
            strict=True,
        ):
            tensor.data.fill_(value)
        other = folded_batch_norms(model, torch.rand(1, 1, 1, 1))
        assert (other[0].weight.item(), other[0].bias.item()) == (4.0, 3.0)
        assert isinstance(other[1], nn.Identity)

    def test_without_affine_parameters_and_after_a_linear_layer(self):
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.ReLU(), nn.Linear(4, 2)
        )
        model[2].running_mean.data = torch.tensor([0.5, 1.0, -1.0, 2.0])
        inputs = torch.rand(5, 3, 1, 1)
        other = folded_batch_norms(model.eval(), inputs[:1])
        assert isinstance(other[2], nn.Identity)
        torch.testing.assert_close(other(inputs), model(inputs))

    def test_a_norm_whose_input_others_take_as_well_stays(self):
        class Both(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.norm = nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)

            def forward(self, x):
                y = self.conv(x)
                return (self.norm(y) + y).mean((2, 3))

        with pytest.raises(CardgenError, match=r"^no batch norm directly after"):
            folded_batch_norms(lively(Both()), torch.rand(1, 3, 4, 4))

    @pytest.mark.parametrize("twice", ["conv", "norm"])
    def test_layers_that_run_twice_stay(self, twice):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.norm, self.last = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)

            def forward(self, x):
                y = self.norm(self.conv(x))
                return (self.conv(y) if twice == "conv" else self.norm(self.last(y))).mean((2, 3))

        with pytest.raises(CardgenError, match=r"^no batch norm directly after"):
            folded_batch_norms(lively(Twice()), torch.rand(1, 3, 4, 4))

    def test_a_norm_without_running_statistics_stays(self):
        model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten())
        with pytest.raises(CardgenError, match=r"^no batch norm directly after"):
            folded_batch_norms(model, torch.rand(1, 3, 4, 4))


class TestPermuting:
    def test_by_hand(self):
        # Two hidden channels can only be swapped.
        model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
        model[1].weight.data, model[1].bias.data = torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 4.0])
        model[3].weight.data = torch.tensor([[5.0, 6.0]])
        other = permuted_channels(model, torch.rand(1, 1, 1, 1))
        assert other[1].weight.tolist() == [[2.0], [1.0]]
        assert other[1].bias.tolist() == [4.0, 3.0]
        assert other[3].weight.tolist() == [[6.0, 5.0]]

    def test_what_a_residual_connection_adds_keeps_its_order(self):
        model, inputs = network("residual")
        moved = {name.rpartition(".")[0] for name in changed(model, permuted_channels(model, inputs[:1]))}
        assert moved == {f"layers.{i}.{layer}" for i in (0, 1) for layer in ("conv1", "norm1", "conv2")}

    def test_every_hidden_layer_of_a_plain_chain_is_permuted(self):
        model, inputs = network("small-cnn")
        other = permuted_channels(model, inputs[:1])
        assert {f"features.layer{i}.conv.weight" for i in range(1, 7)} | {"head.weight"} <= changed(model, other)
        assert torch.equal(other.head.bias, model.head.bias), "the outputs keep their order"

    def test_the_same_order_every_time(self):
        model, inputs = network("tiny")
        one, other = (permuted_channels(model, inputs[:1]) for _ in range(2))
        assert changed(one, other) == set()

    @pytest.mark.parametrize(
        "last",
        [
            lambda x: x.mean((1, 2)),
            lambda x: x.cumsum(1).flatten(1)[:, :4],
            lambda x: x.transpose(1, 2).flatten(1)[:, :4],
            lambda x: torch.nn.functional.layer_norm(x, x.shape[1:]).flatten(1)[:, :4],
        ],
    )
    def test_functions_that_mix_channels_are_not_followed(self, last):
        class Mixing(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

            def forward(self, x):
                return self.head(last(self.conv(x)))

        with pytest.raises(CardgenError, match=r"^no hidden layer whose channels only reach further layers"):
            permuted_channels(Mixing(), torch.rand(1, 3, 4, 4))

    def test_weights_per_channel_of_the_model_itself_are_not_followed(self):
        class Scaled(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
                self.scale = nn.Parameter(torch.rand(4))

            def forward(self, x):
                return self.last(self.first(x.flatten(1)) * self.scale)

        with pytest.raises(CardgenError, match=r"^no hidden layer"):
            permuted_channels(Scaled(), torch.rand(1, 3, 1, 1))

    def test_tied_weights_stay(self):
        model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        model[3].weight = model[1].weight
        with pytest.raises(CardgenError, match=r"^no hidden layer"):
            permuted_channels(model, torch.rand(1, 4, 1, 1))

    def test_grouped_convolutions_stay(self):
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1, groups=2), nn.Flatten())
        with pytest.raises(CardgenError, match=r"^no hidden layer"):
            permuted_channels(model, torch.rand(1, 3, 4, 4))


class TestRectifiers:
    def test_value_and_gradient_by_hand(self):
        x = torch.tensor([-2.0, -0.0, 0.0, 3.0], requires_grad=True)
        y = Difference()(x)
        assert y.tolist() == [0, 0, 0, 3]
        assert torch.autograd.grad(y.sum(), x)[0].tolist() == [0, 0, 0, 1]

    def test_every_relu_module_is_replaced(self):
        model, inputs = network("residual")
        other = rewritten_relus(model, inputs[:1])
        assert not any(isinstance(m, nn.ReLU) for m in other.modules())
        assert sum(isinstance(m, Difference) for m in other.modules()) == 3
        assert set(other.state_dict()) == set(model.state_dict())

    def test_modules_that_never_run_do_not_count(self):
        class Functional(nn.Module):
            def __init__(self):
                super().__init__()
                self.head, self.unused = nn.Linear(3, 2), nn.ReLU()

            def forward(self, x):
                return self.head(x.flatten(1)).relu()

        with pytest.raises(CardgenError, match=r"^no nn\.ReLU module that runs; "):
            rewritten_relus(Functional(), torch.rand(1, 3, 1, 1))


def test_one_layer_has_no_equivalent():
    model = Linear(torch.ones(3, 2, 2))
    for rewrite in REWRITES.values():
        with pytest.raises(CardgenError, match=r"leave this rewrite out$"):
            rewrite(model, torch.rand(1, 3, 2, 2))


@pytest.mark.parametrize("spoilt", ["features.conv2.weight", "features.norm1.bias", "head.weight"])
def test_a_permutation_that_forgot_a_tensor_would_be_seen(spoilt):
    model, inputs = network("tiny")
    other = copy.deepcopy(permuted_channels(model, inputs[:1]))
    other.load_state_dict(other.state_dict() | {spoilt: model.state_dict()[spoilt]})
    with torch.no_grad():
        assert (other(inputs) - model(inputs)).abs().max() > 1e-3 * model(inputs).abs().max()
