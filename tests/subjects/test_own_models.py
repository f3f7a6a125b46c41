"""Models from the user's own code: what functions may return, and what goes wrong with them, in words."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from cardgen.errors import CardgenError
from cardgen.subjects.black_box import BlackBox
from cardgen.subjects.models import check_fit, load_model
from cardgen.subjects.own_models import RETURNS
from cardgen.subjects.preprocess import EXAMPLE, parse_preprocess
from cardgen.weights import weights_digest

CODE = """
import torch
from torch import nn
from helpers_beside_it import CLASSES

class Net(nn.Sequential):
    def __init__(self, num_classes=CLASSES):
        super().__init__(nn.Flatten(), nn.Linear(12, num_classes), nn.Dropout())

def build():
    return Net()

def wide(num_classes):
    return Net(num_classes), "size=2,mean=0.5/0.5/0.5,std=0.5/0.5/0.5"

def any_options(**options):
    return Net(**options)

def function():
    return lambda x: x.flatten(1)[:, :4] * 2

def pair_with_function():
    return torch.nn.functional.normalize, "size=2"

def compiled():
    return torch.compile(Net())

def parallel():
    return nn.DataParallel(Net())

def scripted():
    return torch.jit.trace(Net().eval(), torch.zeros(1, 3, 2, 2))

def needs(path, size=3):
    return Net()

def raises():
    raise FileNotFoundError("weights of mine are gone\\nreally")

def returns_class():
    return Net

def returns_none():
    pass

def returns_three():
    return Net(), "size=2", 3

def _hidden():
    return Net()

ready = Net()
NUMBER = 3
"""
RAISES = next(i for i, line in enumerate(CODE.splitlines(), 1) if "raise FileNotFoundError" in line)


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, in a folder of its own that is not the working folder."""
    folder = tmp_path / "my code"
    folder.mkdir()
    (folder / "nets.py").write_text(CODE)
    (folder / "helpers_beside_it.py").write_text("CLASSES = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "helpers_beside_it", raising=False)
    return folder / "nets.py"


def load(code: Path, function: str, preprocess: str | None = "size=2", **options):
    return load_model(f"{code}:{function}", preprocess=preprocess, **options)


def refusal(code: Path, function: str, **options) -> str:
    with pytest.raises(CardgenError) as caught:
        load(code, function, **options)
    return str(caught.value).replace(str(code), "FILE")


def fit(model) -> int:
    return check_fit(model.module, torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(0)))


def test_a_module(code: Path) -> None:
    path, state = list(sys.path), torch.random.get_rng_state()
    model = load(code, "build")
    assert sys.path == path
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (model.name, model.description, model.classes) == (
        "nets-build",
        "the model that build of nets.py returns",
        (),
    )
    assert model.preprocess == parse_preprocess("size=2")
    assert not model.module.training
    assert fit(model) == 3
    torch.rand(1)
    assert torch.equal(load(code, "build").module[1].weight, model.module[1].weight)


def test_a_class_is_a_function_too(code: Path) -> None:
    assert fit(load(code, "Net")) == 3
    assert fit(load(code, "Net", num_classes=5)) == 5
    assert fit(load(code, "any_options", num_classes=6)) == 6


def test_a_pair_brings_its_preprocessing(code: Path) -> None:
    model = load(code, "wide", preprocess=None, num_classes=7)
    assert model.preprocess == parse_preprocess("size=2,mean=0.5/0.5/0.5,std=0.5/0.5/0.5")
    assert fit(model) == 7
    assert load(code, "wide", preprocess="size=3", num_classes=7).preprocess == parse_preprocess("size=3")
    assert isinstance(load(code, "pair_with_function", preprocess=None).module, BlackBox)


def test_a_function_is_a_black_box_known_by_its_file(code: Path) -> None:
    model = load(code, "function")
    assert isinstance(model.module, BlackBox)
    assert fit(model) == 4
    assert weights_digest(load(code, "function").module) == weights_digest(model.module)
    code.write_text(CODE.replace("* 2", "* 3"))
    assert weights_digest(load(code, "function").module) != weights_digest(model.module)


@pytest.mark.parametrize("function", ["build", "compiled", "parallel"])
def test_another_forward_of_the_same_weights_is_another_model(function: str, code: Path) -> None:
    model = load(code, function)
    assert weights_digest(load(code, function).module) == weights_digest(model.module)
    code.write_text(
        CODE.replace("def build", "    def forward(self, x):\n        return -super().forward(x)\n\ndef build")
    )
    other = load(code, function)
    assert [*map(type, other.module.modules())][1:] == [*map(type, model.module.modules())][1:]
    assert all(map(torch.equal, model.module.parameters(), other.module.parameters()))
    assert weights_digest(other.module) != weights_digest(model.module)


@pytest.mark.parametrize("function", ["compiled", "parallel"])
def test_wrappers_are_taken_off(function: str, code: Path) -> None:
    assert type(load(code, function).module).__name__ == "Net"


def test_weights_from_a_file(code: Path, tmp_path: Path) -> None:
    trained = load(code, "build").module
    nn.init.ones_(trained[1].weight)
    torch.save(trained.state_dict(), tmp_path / "best.pt")
    model = load(code, "build", weights=str(tmp_path / "best.pt"))
    assert torch.equal(model.module[1].weight, torch.ones(3, 12))
    assert model.description == "the model that build of nets.py returns, with weights from best.pt"
    assert refusal(code, "function", weights=str(tmp_path / "best.pt")) == (
        f"FILE:function returned a function, which takes no weights; expected a module for {tmp_path / 'best.pt'}; load them in "
        "the function"
    )
    assert refusal(code, "build", weights="IMAGENET") == (
        "weights 'IMAGENET' of FILE:build; expected DEFAULT, none, or a file (.safetensors, .pt, .pth)"
    )


def test_a_package_of_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("")
    (tmp_path / "own_package" / "nets.py").write_text("from torch import nn\ndef small():\n    return nn.Flatten()\n")
    model = load_model("own_package.nets:small", preprocess="size=2")
    assert (model.name, model.description) == ("nets-small", "the model that small of own_package.nets returns")
    assert fit(model) == 12


def test_a_function_of_torchvision() -> None:
    model = load_model("torchvision.models:squeezenet1_1", num_classes=4, preprocess="imagenet")
    assert model.name == "models-squeezenet1_1"
    assert check_fit(model.module, torch.zeros(1, 3, 224, 224)) == 4


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("biuld", "no function of FILE is called 'biuld'; did you mean build?"),
        ("zzz", "no function of FILE is called 'zzz'; known: Net, any_options, build, compiled, function, needs, pair_with_function, "
                "parallel, raises, returns_class, returns_none, returns_three, scripted, wide"),
        ("ready", "FILE:ready is of type Net; expected a function; write one that returns it"),
        ("NUMBER", "FILE:NUMBER is of type int; expected a function; write one that returns it"),
        ("needs", "FILE:needs needs path; expected no arguments, or num_classes; give the others defaults"),
        ("wide", "FILE:wide needs num_classes; expected no arguments, or num_classes; pass --num-classes"),
        ("raises", f"FILE:raises raised FileNotFoundError: weights of mine are gone (line {RAISES} of nets.py); expected it to return the "
                   "model; mend the function"),
        ("returns_none", f"FILE:returns_none returned NoneType; {RETURNS}; return one of these"),
        ("returns_class", f"FILE:returns_class returned the class Net; {RETURNS}; return one of these"),
        ("returns_three", f"FILE:returns_three returned a tuple of Net, str, int; {RETURNS}; return one of these"),
        ("scripted", f"FILE:scripted returned a TorchScript module, which cannot be looked into; {RETURNS}; return one of these"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_functions_that_do_not_do(function: str, message: str, code: Path) -> None:
    assert refusal(code, function) == message


def test_arguments_that_do_not_fit(code: Path) -> None:
    assert refusal(code, "build", num_classes=4) == (
        "FILE:build takes no num_classes; expected it to, as --num-classes is given; add it, or leave that out"
    )
    assert refusal(code, "build", preprocess=None) == (
        f"the preprocessing of FILE:build is not known; expected it with the model; pass {EXAMPLE}"
    )


def test_code_that_cannot_be_imported(code: Path) -> None:
    mend = "; expected path/to/file.py:function or package.module:function; mend the code or the name"
    (code.parent / "helpers_beside_it.py").write_text("CLASSES = 1 / 0\n")
    assert (
        refusal(code, "build")
        == f"FILE could not be imported: ZeroDivisionError: division by zero (line 4 of nets.py){mend}"
    )
    code.write_text("def build(:\n")
    assert refusal(code, "build").startswith(
        "FILE could not be imported: SyntaxError: invalid syntax (nets.py, line 1)"
    )
    code.write_text("")
    assert refusal(code, "build") == "FILE has no functions; write one"
    code.unlink()
    assert refusal(code, "build") == "FILE: no such file; expected Python code; mend the path"
    with pytest.raises(CardgenError) as caught:
        load_model("no_such_package.nets:build", preprocess="size=2")
    assert str(caught.value) == (
        f"no_such_package.nets could not be imported: ModuleNotFoundError: No module named 'no_such_package'{mend}"
    )


def test_built_in_functions() -> None:
    with pytest.raises(
        CardgenError, match=r"^builtins:dict is built in; expected a function written in Python; write one$"
    ):
        load_model("builtins:dict", preprocess="size=2")
