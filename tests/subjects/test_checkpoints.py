"""Weights from files: all tensors in their place or none, wrappers taken off, nothing in a file ever run."""

import argparse
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import VisionTransformer

from cardgen.errors import CardgenError
from cardgen.subjects.checkpoints import SAVE, load_weights, read_checkpoint


class Net(nn.Sequential):
    """Seven tensors: a convolution, batch normalisation, a head."""

    def __init__(self, classes: int = 3) -> None:
        parts = OrderedDict(
            conv=nn.Conv2d(3, 4, 2), norm=nn.BatchNorm2d(4), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()
        )
        super().__init__(OrderedDict(**parts, head=nn.Linear(4, classes)))


@pytest.fixture
def trained() -> Net:
    torch.manual_seed(5)
    model = Net()
    model(torch.randn(8, 3, 5, 5))
    return model.eval()


def refusal(file: Path, module: nn.Module | None = None) -> str:
    with pytest.raises(CardgenError) as caught:
        load_weights(module or Net(), file)
    return str(caught.value).replace(f"{file}", "FILE")


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda state: state, "w.pt"),
        (lambda state: {"state_dict": state, "epoch": 3}, "w.pt (its 'state_dict')"),
        (lambda state: {"model": state, "optimizer": {"lr": 0.1}}, "w.pt (its 'model')"),
        (lambda state: {"model_state_dict": state}, "w.pt (its 'model_state_dict')"),
        (lambda state: {f"module.{k}": v for k, v in state.items()}, "w.pt (names without 'module.')"),
        (lambda state: {f"_orig_mod.{k}": v for k, v in state.items()}, "w.pt (names without '_orig_mod.')"),
        (
            lambda state: {"state_dict": {f"module._orig_mod.{k}": v for k, v in state.items()}},
            "w.pt (its 'state_dict', names without 'module._orig_mod.')",
        ),
        (lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}}, "w.pt (its 'state_dict', names without 'model.')"),
    ],
)  # fmt: skip
def test_wrapped_state_dicts(wrap, note: str, trained: Net, tmp_path: Path) -> None:
    torch.save(wrap(trained.state_dict()), tmp_path / "w.pt")
    model = Net().eval()
    assert not same(model, trained)
    assert load_weights(model, tmp_path / "w.pt") == note
    assert same(model, trained)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_old_and_new_pickles(suffix: str, trained: Net, tmp_path: Path) -> None:
    for new in (True, False):
        file = tmp_path / f"{new}{suffix}"
        torch.save(trained.state_dict(), file, _use_new_zipfile_serialization=new)
        model = Net()
        assert load_weights(model, file) == file.name
        assert same(model, trained)


def test_safetensors_and_half_precision(trained: Net, tmp_path: Path) -> None:
    save_file({k: v.contiguous() for k, v in trained.state_dict().items()}, tmp_path / "w.safetensors")
    model = Net()
    assert load_weights(model, tmp_path / "w.safetensors") == "w.safetensors"
    assert same(model, trained)
    save_file(
        {k: v.half() if v.is_floating_point() else v for k, v in trained.state_dict().items()},
        tmp_path / "h.safetensors",
    )
    load_weights(model, tmp_path / "h.safetensors")
    assert model.conv.weight.dtype == torch.float32
    assert torch.equal(model.conv.weight, trained.conv.weight.half().float())


def test_a_prefix_of_the_modules_own_stays(tmp_path: Path) -> None:
    wrapped, inner = nn.Sequential(OrderedDict(module=nn.Linear(2, 2))), nn.Linear(2, 2)
    torch.save(wrapped.state_dict(), tmp_path / "w.pt")
    fresh = nn.Sequential(OrderedDict(module=nn.Linear(2, 2)))
    assert load_weights(fresh, tmp_path / "w.pt") == "w.pt"
    assert same(fresh, wrapped)
    assert load_weights(inner, tmp_path / "w.pt") == "w.pt (names without 'module.')"


def test_counts_of_batches_may_be_missing(trained: Net, tmp_path: Path) -> None:
    state = {name: value for name, value in trained.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pt")
    model = Net()
    load_weights(model, tmp_path / "w.pt")
    assert torch.equal(model.norm.running_mean, trained.norm.running_mean)


def test_names_of_older_versions_are_renamed_by_the_module(tmp_path: Path) -> None:
    def small() -> VisionTransformer:
        return VisionTransformer(8, 4, num_layers=1, num_heads=1, hidden_dim=4, mlp_dim=4, num_classes=2)

    model, fresh = small(), small()
    state = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v
        for name, v in model.state_dict().items()
    }
    assert state.keys() != model.state_dict().keys()
    torch.save(state, tmp_path / "w.pt")
    load_weights(fresh, tmp_path / "w.pt")
    assert same(fresh, model)


def test_other_numbers_of_classes_name_the_flag(tmp_path: Path) -> None:
    torch.save(Net(7).state_dict(), tmp_path / "w.pt")
    assert refusal(tmp_path / "w.pt") == (
        "FILE does not fit the model: head.weight [7, 4], in the model [3, 4], head.bias [7], in the model [3]; expected the same shapes; "
        "pass --num-classes 7"
    )


def test_other_widths_do_not(tmp_path: Path) -> None:
    state = Net().state_dict() | {"conv.weight": torch.zeros(4, 1, 2, 2)}
    torch.save(state, tmp_path / "w.pt")
    assert refusal(tmp_path / "w.pt") == (
        "FILE does not fit the model: conv.weight [4, 1, 2, 2], in the model [4, 3, 2, 2]; expected the same shapes; check --model and "
        "--weights"
    )
    torch.save(state | {"conv.weight": torch.zeros(5, 3, 2, 2), "head.weight": torch.zeros(7, 4)}, tmp_path / "w.pt")
    assert refusal(tmp_path / "w.pt").endswith("; check --model and --weights")


def test_other_names_are_listed(tmp_path: Path) -> None:
    torch.save({f"layer{i}": torch.zeros(1) for i in range(6)}, tmp_path / "w.pt")
    assert refusal(tmp_path / "w.pt") == (
        "FILE does not fit the model: missing conv.weight, conv.bias, norm.weight, norm.bias and 4 more; not in the model layer0, layer1, "
        "layer2, layer3 and 2 more; expected this architecture's names; check --model and --weights"
    )
    state = Net().state_dict()
    del state["head.bias"]
    torch.save(state, tmp_path / "w.pt")
    assert refusal(tmp_path / "w.pt") == (
        "FILE does not fit the model: missing head.bias; expected this architecture's names; check --model and --weights"
    )


class Evil:
    """Unpickled, it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_no_pickle_is_run(tmp_path: Path) -> None:
    for new in (True, False):
        torch.save({"state_dict": Evil(tmp_path / "made")}, tmp_path / "w.pt", _use_new_zipfile_serialization=new)
        assert refusal(tmp_path / "w.pt") == (
            "FILE: not loaded, since the pickle needs posix.mkdir, and unpickling that can run anything: a whole model or other objects "
            f"were saved; expected tensors; if you trust the file, load it where it was made and {SAVE}"
        ).replace("posix", os.mkdir.__module__)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "needed"),
    [
        (lambda: Net(), f"{Net.__module__}.Net"),
        (lambda: nn.Sequential(nn.Linear(2, 2)), "torch.nn.modules.container.Sequential"),
        (lambda: {"model": Net().state_dict(), "args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
    ],
)
def test_whole_models_and_objects_are_refused(content, needed: str, tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "w.pth")
    assert refusal(tmp_path / "w.pth").startswith(
        f"FILE: not loaded, since the pickle needs {needed}, and unpickling that can run anything"
    )


def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "w.pt")
    assert refusal(tmp_path / "w.pt") == (
        f"FILE: a TorchScript archive; expected weights only, since its graph cannot be looked into; {SAVE}"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "FILE holds dict; expected"),
        ([torch.zeros(1)], "FILE holds list; expected"),
        (torch.zeros(1), "FILE holds Tensor; expected"),
        ({"epoch": 3, "ema": {"a": torch.zeros(1)}}, "FILE holds a dict of epoch, ema; expected"),
        (
            {"model": {"a": torch.zeros(1)}, "state_dict": {"a": torch.zeros(1)}},
            "FILE holds a dict of model, state_dict; expected",
        ),
    ],
)
def test_files_without_one_state_dict(content, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    rest = f" a state dict, or exactly one under state_dict, model or model_state_dict; {SAVE}"
    assert refusal(tmp_path / "w.pt") == message + rest


@pytest.mark.parametrize("content", [b"", b"hello world", b"\x80\x02", b"PK\x03\x04 not a zip", bytes(100)])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files(content: bytes, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"w{suffix}"
    file.write_bytes(content)
    message = refusal(file)
    assert message.startswith("FILE: damaged")
    assert message.endswith("; copy or save it again")


def test_a_file_cut_short(trained: Net, tmp_path: Path) -> None:
    torch.save(trained.state_dict(), tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(content[: len(content) // 2])
    assert refusal(tmp_path / "w.pt").startswith(
        "FILE: damaged, or no checkpoint: PytorchStreamReader failed reading zip archive"
    )


def test_no_such_file_and_other_kinds(tmp_path: Path) -> None:
    assert (
        refusal(tmp_path / "w.pt") == "FILE: no such file; expected weights in .safetensors, .pt or .pth; mend the path"
    )
    (tmp_path / "w.npz").write_bytes(b"x")
    assert refusal(tmp_path / "w.npz") == f"FILE: unknown kind of weights; expected .safetensors, .pt or .pth; {SAVE}"
    with pytest.raises(CardgenError, match="no such file"):
        read_checkpoint(tmp_path)
