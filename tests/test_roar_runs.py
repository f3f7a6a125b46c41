"""Runs that retrain: what people are told who lack images to train on, and what is measured once there are some."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from small_patches import patches
from small_runs import only

from cardgen.cli import main
from cardgen.metrics import METRICS
from cardgen.subjects.retraining import last_epochs

NETWORK = """
import torch
from torch import nn


def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    return nn.Sequential(*layers), "size=8,mean=0.5/0.4/0.6,std=0.2/0.25/0.3"
"""
TRAINING = """
import torch
from network import network


def fit(inputs, labels, seed):
    model, _ = network()
    torch.manual_seed(seed)
    for module in model:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    optimiser = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(25):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()
        optimiser.step()
    return model
"""
RECORD = Path("evaluations/tried/vanilla_gradients/roar.json")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a network, samples, and images to train on; the metric trains few networks, against one noise control."""
    monkeypatch.chdir(tmp_path)
    Path("network.py").write_text(NETWORK)
    Path("train.py").write_text(TRAINING)
    for folder, n, seed in (("test", 60, 2), ("train", 100, 1), ("more", 110, 3)):
        images, labels, _ = patches(n, seed)
        for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            file = Path(folder, "abc"[label], f"{i}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(file)
    metric = METRICS["roar"]
    few = replace(metric, function=partial(metric.function, images=100, epochs=1, seeds=2))
    only(monkeypatch, ["vanilla_gradients", "noise"], [few])
    return tmp_path


def cardgen(*arguments, command="run"):
    """A command in this process; its exit status and what it said."""
    always = ("--model", "network.py:network", "--data", "test", "--methods", "vanilla_gradients", "--metrics", "roar")
    given = [command, *always, "--batch", "16", "--name", "tried", "--force-unhealthy", *map(str, arguments)]
    result = CliRunner().invoke(main, given)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.usefixtures("here")
def test_what_to_provide_is_said():
    for budget, reason in (
        ("quick", "budget: retrains 10 models; choose --budget full"),
        ("full", "needs labelled training images; give them by --train-data"),
    ):
        status, said = cardgen("--budget", budget)
        assert status == 0
        assert f"skipped: {reason}: vanilla_gradients (roar)" in " ".join(said.split())
        assert json.loads(RECORD.read_text())["reason"] == reason


@pytest.mark.usefixtures("here")
def test_is_measured_once_and_anew_on_other_images():
    full = ("--budget", "full", "--train", "train.py:fit", "--train-data")
    status, said = cardgen(*full, "train")
    assert status == 0, said
    record = json.loads(RECORD.read_text())
    assert record.get("n") == 60, record["reason"]
    assert record["verdict"] in ("pass", "fail", "inconclusive")
    assert list(record["controls"]) == ["noise"]
    assert record["reported"]["accuracy without removal"] > 0.6
    assert not [*Path().rglob("*.part*")]
    before = RECORD.read_bytes()
    assert "1 up to date" in cardgen(*full, "train")[1]
    assert "1 up to date" in cardgen(*full, "train", command="plan")[1]
    assert RECORD.read_bytes() == before
    assert "1 evaluation to do" in cardgen(*full, "more", command="plan")[1]
    assert "1 evaluation measured" in cardgen(*full, "more")[1]
    assert json.loads(RECORD.read_text())["key_parts"]["training"] != record["key_parts"]["training"]


def test_of_a_network_s_epochs_the_last_is_told():
    told = []
    tell = last_epochs(told.append)
    for line in (
        "goes on after 3 of 4 epochs",
        "model 1 of 2: epoch 3 of 4: loss 1",
        "epoch 14 of 4",
        "epoch 4 of 4: loss 0",
    ):
        tell(line)
    assert told == ["goes on after 3 of 4 epochs", "epoch 4 of 4: loss 0"]
