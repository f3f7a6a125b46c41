"""Training by the user's own code: what it is given, what it may return, and what goes wrong with it, in words."""

import hashlib
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from cardgen.errors import CardgenError
from cardgen.subjects.fitting import TrainingData
from cardgen.subjects.own_training import own_digest, own_fit
from cardgen.weights import weights_digest

CODE = """
import random
import numpy as np
import torch
from torch import nn
from helper_beside_training import CLASSES

torch.manual_seed(1)
np.random.seed(1)
random.seed(1)
seen = []

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, CLASSES))

def fit(inputs, labels, seed):
    seen.append((inputs, labels, seed))
    model = net()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(20):
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.drawn = [random.random(), float(np.random.rand()), float(torch.rand(1))]
    return model.train()

def other_names(x, y, s, verbose=False):
    return net()

def writes(inputs, labels, seed):
    inputs.fill_(torch.nan)
    labels.fill_(7)
    return net()

def parallel(inputs, labels, seed):
    return nn.DataParallel(net())

def too_few(inputs, labels):
    return net()

def too_many(inputs, labels, seed, lr):
    return net()

def raises(inputs, labels, seed):
    raise ValueError("no such optimiser\\nreally")

def returns_none(inputs, labels, seed):
    pass

def returns_class(inputs, labels, seed):
    return nn.Linear

def returns_function(inputs, labels, seed):
    return lambda x: x.flatten(1)

def diverges(inputs, labels, seed):
    model = net()
    nn.init.constant_(model[1].weight, torch.nan)
    return model

def few_classes(inputs, labels, seed):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))

def maps(inputs, labels, seed):
    return nn.Conv2d(3, 1, 1)

def other_size(inputs, labels, seed):
    return nn.Sequential(nn.Flatten(), nn.Linear(13, CLASSES))

NUMBER = 3
"""
RAISES = next(i for i, line in enumerate(CODE.splitlines(), 1) if "raise ValueError" in line)


@pytest.fixture(autouse=True)
def code(tmp_path, monkeypatch):
    folder = tmp_path / "my code"
    folder.mkdir()
    (folder / "mine.py").write_text(CODE)
    (folder / "helper_beside_training.py").write_text("CLASSES = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "helper_beside_training", raising=False)
    return folder / "mine.py"


def images(k=0, n=200):
    labels = torch.arange(n) % 3
    noise = torch.randint(0, 60, (n, 3, 2, 2), generator=torch.Generator().manual_seed(k))
    return (noise + 60 * labels[:, None, None, None]).to(torch.uint8), labels


DATA = TrainingData(images, lambda batch: batch.float() / 128 - 1, "bright")


def run(code, function, seed=0):
    return own_fit(f"{code}:{function}", DATA, seed)


def test_a_model_that_the_function_trained(code):
    model = run(code, "fit", seed=4)
    ((inputs, labels, seed),) = sys.modules[_module_name(code)].seen
    assert torch.equal(inputs, DATA.inputs(images()[0]))
    assert torch.equal(labels, images()[1])
    assert (inputs.dtype, labels.dtype, seed) == (torch.float32, torch.int64, 4)
    assert not model.training
    assert (model(inputs).argmax(1) == labels).float().mean() > 0.6


def _module_name(code):
    return f"cardgen_user_{hashlib.sha256(str(code.resolve()).encode()).hexdigest()[:12]}"


def test_same_seed_same_model_and_no_generator_moved(code):
    def trained(seed):
        torch.rand(3), np.random.rand(3), random.random()
        states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        model = run(code, "fit", seed)
        own_digest(f"{code}:fit")
        assert torch.equal(states[0], torch.get_rng_state())
        assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())
        return [weights_digest(model), *model.drawn]

    first, other = trained(0), trained(1)
    assert trained(0) == first
    assert not any(a == b for a, b in zip(first, other, strict=True))  # though the file's own code seeds them all


def test_gradients_are_recorded_whoever_asks(code):
    with torch.inference_mode():
        assert not run(code, "fit")[1].weight.is_inference()


def test_arguments_may_have_other_names_and_be_written_into(code):
    assert isinstance(run(code, "other_names"), nn.Sequential)
    assert isinstance(run(code, "writes"), nn.Sequential)
    assert torch.equal(images()[0], DATA.epoch(0)[0])


def test_wrappers_are_taken_off(code):
    assert type(run(code, "parallel")) is nn.Sequential


def test_the_code_is_part_of_the_model_and_has_a_digest(code):
    name = f"{code}:other_names"
    before, digest = run(code, "other_names").cardgen_code, own_digest(name)
    assert before == digest == hashlib.sha256(code.read_bytes()).hexdigest()
    code.write_text(CODE + "\n# once more\n")
    assert own_digest(name) != digest
    with pytest.raises(CardgenError, match="called as too_few"):
        own_digest(f"{code}:too_few")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fitt", "no function of FILE is called 'fitt'; did you mean fit?"),
        ("NUMBER", "FILE:NUMBER is of type int; expected a function; write one that returns it"),
        ("too_few", "FILE:too_few is called as too_few(inputs, labels); expected fit(inputs, labels, seed); give it these three arguments"),
        ("too_many", "FILE:too_many is called as too_many(inputs, labels, seed, lr); expected fit(inputs, labels, seed); give it these "
                     "three arguments"),
        ("raises", f"FILE:raises raised ValueError: no such optimiser (line {RAISES} of mine.py); expected it to return the trained model; "
                   "mend the function"),
        ("returns_none", "FILE:returns_none returned NoneType; expected an nn.Module, trained; return that"),
        ("returns_class", "FILE:returns_class returned the class Linear; expected an nn.Module, trained; return that"),
        ("returns_function", "FILE:returns_function returned function; expected an nn.Module, trained; return that"),
        ("diverges", "the model that FILE:diverges returned gives outputs that are not finite; expected logits; lower the learning "
                     "rate, or mend its forward"),
        ("few_classes", "the model that FILE:few_classes returned gives 2 logits, and labels reach to 2; expected one for each class; "
                        "give its last layer that many"),
        ("maps", "the model that FILE:maps returned does not fit: the model returned (8, 1, 2, 2); expected logits of shape (8, classes); "
                 "wrap the model in a module whose forward returns only these"),
        ("other_size", "the model that FILE:other_size returned raised RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x12 and "
                       "13x3) for inputs of shape (8, 3, 2, 2); expected logits; mend its forward"),
    ],
)  # fmt: skip
def test_functions_that_do_not_do(function, message, code):
    with pytest.raises(CardgenError) as caught:
        run(code, function)
    assert str(caught.value).replace(str(code), "FILE") == message


def test_built_in_functions():
    with pytest.raises(CardgenError) as caught:
        own_fit("builtins:dict", DATA, 0)
    assert str(caught.value) == (
        "builtins:dict is built in; expected a function written in Python, fit(inputs, labels, seed); write one"
    )
