"""Repaired copies: the same function, the same weights, one module a call; and activations found whoever computes them."""

import threading
from collections import Counter, OrderedDict

import pytest
import torch
import torchvision
from small_models import Residual, Tiny, lively, seeded, snapshot, untouched, vgg
from torch import nn
from torch.nn import functional as F

from cardgen import repair
from cardgen.errors import CardgenError
from cardgen.forward import prepared
from cardgen.repair import ACTIVATIONS, Calls, activations_apart, copied, nonlinearities, restart, twin

IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SMALL = IMAGES[..., :12, :10]


def torchvision_model(name):
    return lively(seeded(0, lambda: getattr(torchvision.models, name)(weights=None, num_classes=5)))


class Shared(nn.Module):
    """One ReLU under three names, in place, and one in a plain list."""

    def __init__(self):
        super().__init__()
        act = nn.ReLU(inplace=True)
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), act, nn.Conv2d(4, 4, 3), act)
        self.act = act
        self.unlisted = [nn.Sigmoid()]
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.unlisted[0](self.act(self.first(x) - 0.1)).mean((2, 3)))


class Prelus(nn.Module):
    """One PReLU, used twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(3, 4, 3), nn.PReLU(4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.act(self.act(self.conv(x)) - 0.3).mean((2, 3)))


class Overwritten(nn.Module):
    """A shortcut that reads what an activation in place has overwritten."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
        self.act = nn.ReLU(inplace=True)
        self.conv, self.head = nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

    def forward(self, x):
        x = self.stem(x) - 0.2
        return self.head((self.conv(self.act(x)) + x).mean((2, 3)))


SMALL_MODELS = {
    "tiny": Tiny,
    "residual": Residual,
    "vgg": vgg,
    "shared": Shared,
    "prelus": Prelus,
}
NETWORKS = ("resnet18", "densenet121", "mobilenet_v3_small")


def small_model(name):
    return lively(seeded(0, SMALL_MODELS[name]))


def assert_repaired(model, inputs):
    with untouched(model, inputs), torch.no_grad():
        before = model(inputs)
        copied = activations_apart(model, inputs[:1])
        assert torch.equal(copied(inputs), before)
        assert torch.equal(copied(inputs), before)
    activations = [module for module in copied.modules() if isinstance(module, ACTIVATIONS)]
    assert activations
    assert not any(getattr(module, "inplace", False) for module in activations)
    runs = Counter()
    for module in activations:
        module.register_forward_hook(lambda module, *_: runs.update([module]))
    with torch.no_grad():
        copied(inputs)
    assert set(runs.values()) == {1}
    assert {id(p) for p in copied.parameters()} == {id(p) for p in model.parameters()}
    assert {id(p) for p in copied.buffers()} == {id(p) for p in model.buffers()}
    assert not {id(m) for m in copied.modules()} & {id(m) for m in model.modules()}


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_small_networks(name):
    assert_repaired(small_model(name), SMALL)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_torchvision(name):
    assert_repaired(torchvision_model(name), IMAGES)


class TestOneModuleACall:
    def test_a_reused_relu_becomes_its_calls(self):
        copied = activations_apart(small_model("residual"), SMALL[:1])
        for block in copied.layers:
            assert isinstance(block.relu, Calls)
            assert [type(call) for call in block.relu.calls] == [nn.ReLU, nn.ReLU]
        assert isinstance(copied.stem[2], nn.ReLU)

    def test_one_under_several_names_becomes_several(self):
        copied = activations_apart(small_model("shared"), SMALL[:1])
        found = [copied.first[1], copied.first[3], copied.act]
        assert [type(module) for module in found] == [nn.ReLU] * 3
        assert len(set(found)) == 3

    def test_calls_share_their_parameters(self):
        model = small_model("prelus")
        copied = activations_apart(model, SMALL[:1])
        assert isinstance(copied.act, Calls)
        assert {id(call.weight) for call in copied.act.calls} == {id(model.act.weight)}

    def test_a_pass_that_breaks_off_leaves_the_next_one_whole(self):
        copied = activations_apart(small_model("residual"), SMALL[:1])
        block = copied.layers[0]
        handle = block.conv2.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            copied(SMALL)
        handle.remove()
        assert block.relu.turn == 1
        with torch.no_grad():
            assert torch.equal(copied(SMALL), small_model("residual")(SMALL))

    def test_more_calls_than_on_the_example_are_refused(self):
        class Varying(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.act = nn.Conv2d(3, 2, 3), nn.ReLU()

            def forward(self, x):
                x = self.conv(x)
                for _ in range(1 + len(x)):
                    x = self.act(x) - 0.1
                return x.mean((2, 3))

        copied = activations_apart(Varying().eval(), SMALL[:1])
        with torch.no_grad():
            copied(SMALL[:1])
            with pytest.raises(CardgenError) as caught:
                copied(SMALL[:2])
        assert str(caught.value) == (
            "an activation ran more than 2 times; expected 2 calls, as for the first sample; "
            "rewrite the model so that all samples take the same way through it"
        )

    def test_restart_goes_back_to_the_first_call(self):
        copied = activations_apart(small_model("residual"), SMALL[:1])
        with torch.no_grad():
            copied(SMALL)
        assert copied.layers[0].relu.turn == 2
        restart(copied)
        assert copied.layers[0].relu.turn == 0


class TestShared:
    @pytest.mark.parametrize("name", SMALL_MODELS)
    def test_changed_weights_show_in_the_copy(self, name):
        model = small_model(name)
        copied = activations_apart(model, SMALL[:1])
        with torch.no_grad():
            before = copied(SMALL)
            for parameter in model.parameters():
                parameter.data = parameter * 1.1
            after = copied(SMALL)
            assert torch.equal(after, model(SMALL))
        assert not torch.allclose(before, after)

    def test_other_tensors_and_hooks_come_along(self):
        model, seen = small_model("tiny"), []
        model.temperature = (torch.ones(2, requires_grad=True) * 2).sum()  # no leaf: deepcopy by itself refuses it
        model.register_forward_hook(lambda *_: seen.append(1))
        copied = twin(model)
        assert copied.temperature is model.temperature
        copied(SMALL)
        assert seen == [1]

    def test_hooks_that_count_do_not_see_the_repair(self):
        model, seen = small_model("residual"), []
        model.register_forward_hook(lambda *_: seen.append(1))
        activations_apart(model, SMALL[:1])
        nonlinearities(model, SMALL[:1])
        assert seen == []

    def test_what_cannot_be_copied_is_refused(self):
        model = small_model("tiny")
        model.lock = threading.Lock()
        with pytest.raises(CardgenError) as caught:
            twin(model)
        assert str(caught.value) == (
            "the model cannot be copied (cannot pickle '_thread.lock' object); expected a module that copy.deepcopy takes; "
            "keep out of it what cannot be copied"
        )

    def test_memory_that_runs_out_is_no_refusal(self, monkeypatch):
        def full(*_):
            raise torch.OutOfMemoryError("CUDA out of memory.")

        monkeypatch.setattr(repair.copy, "deepcopy", full)
        for copying in (twin, copied):
            with pytest.raises(torch.OutOfMemoryError):
                copying(small_model("tiny"))

    def test_a_model_in_training_mode_is_copied_in_evaluation_mode(self):
        model = small_model("tiny").train()
        copied = activations_apart(model, SMALL[:1])
        assert not any(module.training for module in copied.modules())
        assert all(module.training for module in model.modules())


def test_an_overwritten_input_that_is_read_again_is_refused_by_name():
    with pytest.raises(CardgenError) as caught:
        activations_apart(seeded(0, Overwritten).eval(), SMALL[:1])
    assert str(caught.value) == (
        "without working in place act gives other outputs, as what it overwrites is read again; expected activations "
        "whose result is used; rewrite that part of the model"
    )


def test_hooks_on_an_activations_input_do_not_see_the_shortcut():
    class Shortcut(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return (self.act(x) + 5 * x).sum((2, 3))

    def gradient_at_the_relus_input(model):
        seen = []
        model.act.register_forward_pre_hook(lambda _, inputs: inputs[0].register_hook(seen.append) and None)
        x = torch.ones(1, 1, 2, 2, requires_grad=True)
        model(x * 1).sum().backward()
        return seen[0]

    model = Shortcut().eval()
    assert gradient_at_the_relus_input(activations_apart(model, torch.ones(1, 1, 2, 2))).unique().tolist() == [1.0]
    assert gradient_at_the_relus_input(model).unique().tolist() == [6.0]


def test_the_global_generator_and_the_model_are_left_alone():
    model = small_model("residual")
    before = snapshot(model)
    with prepared(model):
        nonlinearities(activations_apart(model, SMALL[:1]), SMALL[:1])
    assert (before["generator"] == torch.random.get_rng_state()).all()
    assert snapshot(model)["hooks"] == before["hooks"]


class Functions(nn.Module):
    """A function in the middle of a module that has children."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.block = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3)))

    def forward(self, x):
        return self.function(self.block(x)).mean((2, 3))


FUNCTIONS = {
    "relu": [
        F.relu,
        lambda x: F.relu_(x.clone()),
        torch.relu,
        lambda x: x.relu(),
        lambda x: x.clamp(min=0),
        lambda x: x.clamp(0),
        lambda x: torch.clamp(x, min=0.0),
        lambda x: torch.clamp_min(x, 0),
        lambda x: x.clone().clamp_(min=0),
        lambda x: F.threshold(x, 0, 0),
    ],
    "threshold": [lambda x: F.threshold(x, 1, 0)],
    "relu6": [F.relu6, lambda x: F.hardtanh(x, 0.0, 6.0)],
    "hardtanh": [F.hardtanh],
    "leaky_relu": [F.leaky_relu],
    "prelu": [lambda x: F.prelu(x, torch.full((1,), 0.2))],
    "rrelu": [F.rrelu],
    "elu": [F.elu, F.selu],
    "celu": [lambda x: F.celu(x, 2.0)],
    "gelu": [F.gelu, lambda x: F.gelu(x, approximate="tanh")],
    "silu": [F.silu],
    "mish": [F.mish],
    "hardswish": [F.hardswish],
    "softplus": [F.softplus],
    "glu": [lambda x: F.glu(x, 1)],
    "sigmoid": [torch.sigmoid, lambda x: x * x.sigmoid()],
    "hardsigmoid": [F.hardsigmoid],
    "tanh": [torch.tanh],
    "logsigmoid": [F.logsigmoid],
    "hardshrink": [F.hardshrink],
    "softshrink": [F.softshrink],
}


class TestNonlinearities:
    @pytest.mark.parametrize(("name", "k"), [(name, k) for name, those in FUNCTIONS.items() for k in range(len(those))])
    def test_functions(self, name, k):
        (found,) = nonlinearities(Functions(FUNCTIONS[name][k]).eval(), SMALL[:1])
        assert (found.function, found.name) == (name, "")
        assert found.title == f"functional {name} in the model itself"

    @pytest.mark.parametrize(
        "function",
        [
            lambda x: x.clamp(min=1e-6),
            lambda x: x.clamp(max=0),
            lambda x: x.clamp(0, 1),
            lambda x: x.clamp(min=torch.zeros(())),
            lambda x: x.long().clamp(min=0).float(),
            lambda x: F.max_pool2d(x, 2),
            lambda x: x.softmax(1),
            lambda x: x - x.mean(),
        ],
    )
    def test_what_is_none(self, function):
        assert nonlinearities(Functions(function).eval(), SMALL[:1]) == []

    def test_modules_in_the_order_of_their_calls(self):
        found = nonlinearities(small_model("residual"), SMALL[:1])
        names = ["stem.2", *["layers.0.relu"] * 2, *["layers.1.relu"] * 2]
        assert [(unit.function, unit.name) for unit in found] == [("relu", name) for name in names]
        assert {type(unit.module) for unit in found} == {nn.ReLU}
        assert found[1].title == "ReLU (layers.0.relu)"

    def test_calls_bear_the_name_of_their_activation(self):
        found = nonlinearities(activations_apart(small_model("residual"), SMALL[:1]), SMALL[:1])
        assert [unit.name for unit in found][1:3] == ["layers.0.relu"] * 2

    def test_it_can_be_asked_again(self):
        copied = activations_apart(small_model("residual"), SMALL[:1])
        assert nonlinearities(copied, SMALL[:1]) == nonlinearities(copied, SMALL[:1])

    def test_a_module_out_of_sight_is_a_function(self):
        found = nonlinearities(small_model("shared"), SMALL[:1])
        assert [unit.title for unit in found][-1] == "functional sigmoid in the model itself"

    def test_an_activation_of_ones_own_has_its_own_name(self):
        class Swish(nn.Module):
            def forward(self, x):
                return F.silu(x)

        model = nn.Sequential(nn.Conv2d(3, 2, 3), Swish(), nn.Flatten())
        assert [unit.title for unit in nonlinearities(model, SMALL[:1])] == ["Swish (1)"]

    def test_a_rectifier_of_ones_own_is_a_function(self):
        class Rectifier(nn.Module):
            def forward(self, x):
                return F.relu(x)

        model = nn.Sequential(nn.Conv2d(3, 2, 3), Rectifier(), nn.Flatten())
        assert [unit.title for unit in nonlinearities(model, SMALL[:1])] == ["functional relu in 1"]

    def test_fused_transformer_layers_are_seen_through(self):
        class Encoder(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.TransformerEncoderLayer(6, 2, 8, activation="relu", batch_first=True)

            def forward(self, x):
                return self.layer(x.flatten(2)[..., :6]).mean(1)

        model = Encoder().eval().requires_grad_(False)
        with torch.no_grad():
            assert [unit.title for unit in nonlinearities(model, SMALL[:1])] == ["functional relu in layer"]
