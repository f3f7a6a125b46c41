"""What people meet when they try their own models and data: wrong names, other models in the same place, counts and notes."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cardgen.cli import main

NETWORKS = """
import torch
from torch import nn


def network(channels):
    torch.manual_seed(0)
    layers = nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    return nn.Sequential(*layers)


def colour():
    return network(3), "size=8,mean=0.5/0.5/0.5,std=0.5/0.5/0.5"


def grey():
    return network(1), "size=8,mean=0.5,std=0.5"


def other():
    model = network(3)
    nn.init.ones_(model[0].weight)
    return model, "size=8,mean=0.5/0.5/0.5,std=0.5/0.5/0.5"


def function():
    return (lambda inputs: inputs.mean((2, 3))[:, :2]), "size=8,mean=0.5/0.5/0.5,std=0.5/0.5/0.5"
"""
CHEAP = ("--methods", "vanilla_gradients,grad_cam", "--metrics", "sparsity", "--batch", 4)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with networks and a folder of eight pictures of two classes; no card is measured there yet."""
    monkeypatch.chdir(tmp_path)
    Path("networks.py").write_text(NETWORKS)
    write_pictures(Path("tones"))
    return tmp_path


def write_pictures(folder, seed=0):
    draws = np.random.default_rng(seed)
    for name in ("dark", "light"):
        (folder / name).mkdir(parents=True)
        for k in range(4):
            pixels = draws.integers(0, 128, (8, 8, 3), dtype=np.uint8) + np.uint8(127 * (name == "light"))
            Image.fromarray(pixels).save(folder / name / f"{k}.png")


def cardgen(*arguments):
    """A command in this process; its exit status and what it said."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def run(*arguments, model="networks.py:colour", data="tones"):
    """A run whatever the model's health; untrained networks have none."""
    return cardgen("run", "--model", model, "--data", data, *CHEAP, "--force-unhealthy", *arguments)


def subject(slug="networks-colour-tones"):
    return json.loads(Path(f"evaluations/{slug}/subject.json").read_text())


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("features", "the model's layers: no layer is called 'features'; known: 0, 1, 2, 3, 4"),
        (
            "4",
            "layer '4' has an output of shape (1, 2); expected feature maps [n, channels, h, w]; name a convolutional layer with layer=",
        ),
    ],
)
def test_a_layer_that_class_activation_cannot_take_is_refused_before_anything_is_measured(layer, said):
    assert run("--layer", layer) == (2, f"error: {said}\n")
    assert not Path("evaluations").exists()
    status, found = cardgen(
        "doctor", "--model", "networks.py:colour", "--data", "tones", "--batch", 4, "--layer", layer
    )
    assert (status, found.splitlines()[-1]) == (1, f"✗ {said}")


@pytest.mark.usefixtures("here")
def test_a_layer_means_nothing_to_a_black_box():
    assert run("--layer", "0", model="networks.py:function")[0] == 0


@pytest.mark.usefixtures("here")
def test_cards_of_grey_models_have_their_picture():
    assert run(model="networks.py:grey")[0] == 0
    assert sorted(path.parent.name for path in Path("cards").glob("*/example.png")) == ["grad_cam", "vanilla_gradients"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["réseau", "_networks", "сеть"])
def test_files_of_any_name_give_subjects_that_cards_can_be_built_of(name):
    Path("networks.py").rename(f"{name}.py")
    status, said = run(model=f"{name}.py:colour")
    assert (status, said.splitlines()[-1]) == (0, f"Cards: {Path('cards/README.md')}")
    slug = {"réseau": "reseau-colour", "_networks": "networks-colour", "сеть": "colour"}[name]
    assert subject(f"{slug}-tones")["title"] == f"{slug} on tones"


@pytest.mark.usefixtures("here")
def test_what_is_skipped_is_said_once_and_counts_as_skipped():
    chance = "model at chance level (accuracy 0.5, n = 8)"
    status, said = cardgen("run", "--model", "networks.py:colour", "--data", "tones", *CHEAP)
    assert status == 0
    assert [line for line in said.splitlines() if chance in line] == [
        f"skipped: {chance}: vanilla_gradients and grad_cam (sparsity)"
    ]
    assert "so nothing is judged. Check its weights, the classes and the preprocessing with `cardgen doctor`" in said
    assert "to forward" not in said
    assert "0 evaluations measured, 2 skipped, 0 up to date.\n" in said
    assert (
        "0 evaluations measured, 2 up to date.\n"
        in cardgen("run", "--model", "networks.py:colour", "--data", "tones", *CHEAP)[1]
    )


@pytest.mark.usefixtures("here")
def test_a_function_is_measured_where_outputs_suffice():
    said = run("--methods", "vanilla_gradients,occlusion", model="networks.py:function")[1].splitlines()
    assert [
        line for line in said if line.startswith("skipped: needs ") and line.endswith(": vanilla_gradients (sparsity)")
    ]
    assert "1 evaluation measured, 1 skipped, 0 up to date." in said


@pytest.mark.usefixtures("here")
def test_controls_are_said_in_a_line_each():
    said = run("--methods", "grad_cam", "--metrics", "completeness", "--n", 4)[1].splitlines()
    controls = [line for line in said if "noise_4" in line]
    assert controls == ["control noise_4: 1 open"]
    assert [line[:2] for line in said if "grad_cam · " in line] == ["🟨 "]


@pytest.mark.usefixtures("here")
def test_a_plan_names_the_same_evaluations_once():
    status, said = cardgen("plan", "--model", "networks.py:colour", "--data", "tones", *CHEAP, "--force-unhealthy")
    lines = said.splitlines()
    assert status == 0
    first = next(k for k, line in enumerate(lines) if line.startswith("vanilla_gradients: 1 evaluation, about "))
    assert lines[first + 1].startswith("grad_cam: 1 evaluation, about ")
    assert lines[first + 2] == "  each with n = 8: sparsity"


LEFT = (
    "1 evaluation in {root} that this run did not measure again rests on {what}: vanilla_gradients. Measure them again as well, or "
    "give this subject a folder of its own with --name."
)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("--model", "networks.py:other"), "another model"),
        (("--target", 1), "another class explained"),
        (("--data", "elsewhere/tones"), "other data"),
    ],
)
def test_evaluations_of_something_else_in_the_same_place_are_told(change, what):
    write_pictures(Path("elsewhere/tones"), seed=1)
    said = LEFT.format(root=Path("evaluations/mine"), what=what)
    assert said not in run("--name", "mine")[1]
    assert said in run("--name", "mine", "--methods", "grad_cam", *change)[1].splitlines()
    assert "that this run did not measure again" not in run("--name", "mine", *change)[1]


@pytest.mark.usefixtures("here")
def test_fewer_samples_of_the_same_data_are_nothing_else():
    run("--name", "mine")
    assert "that this run did not measure again" not in run("--name", "mine", "--methods", "grad_cam", "--n", 4)[1]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("target", ["2", "²", "light", "-1"])
def test_a_class_that_the_model_does_not_have_is_refused(target):
    assert run("--target", target) == (
        2,
        f"error: target {target!r} cannot be explained; expected predicted, label (where the data has labels), or a class from 0 to 1\n",
    )
