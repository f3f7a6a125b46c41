"""`cardgen doctor`: what it looks at, and what it calls unwell."""

import pytest
import small_runs
import torch
from torch import nn

from cardgen import doctor
from cardgen.config import RunConfig
from cardgen.doctor import examine


def findings(monkeypatch, of, **settings):
    monkeypatch.setattr(doctor, "load_subject", lambda config: of)
    found = list(examine(RunConfig(**settings)))
    return [one.text for one in found if one.well], [one.text for one in found if not one.well]


def test_a_healthy_subject(monkeypatch):
    well, unwell = findings(monkeypatch, small_runs.loaded())
    assert unwell == []
    assert well[0].startswith("cardgen ")
    assert f"torch {torch.__version__}".split("+")[0] in well[0]
    assert "24 samples without labels: the model's health is unknown" in well
    assert "ground-truth masks" in well
    assert "the same outputs twice, and alone as in a batch" in well
    assert any(text.startswith("methods that fit: ") and "grad_cam" in text for text in well)
    assert "methods of class activation take the layer features.relu2" in well


def test_a_model_without_convolutions(monkeypatch):
    well, unwell = findings(monkeypatch, small_runs.loaded(small_runs.flat_model(), masks=False))
    assert unwell == []
    assert "no ground-truth masks: evaluations that need them are skipped" in well
    assert "grad_cam will be skipped: the model executes no Conv2d with more than one pixel of output" in well


def test_a_model_at_chance_level(monkeypatch):
    labels = torch.arange(24) % 4
    _, unwell = findings(monkeypatch, small_runs.loaded(labels=labels))
    assert len(unwell) == 1
    assert unwell[0].startswith("accuracy ")
    assert unwell[0].endswith("not told from chance, so evaluations are skipped; check classes and preprocessing")


class Neighbourly(nn.Module):
    """A sample's output depends on its neighbours."""

    def __init__(self):
        super().__init__()
        self.inner = small_runs.convolutional()

    def forward(self, x):
        return self.inner(x) + 3 * x.mean() * torch.arange(4)


class Moody(Neighbourly):
    """Outputs are drawn anew each time."""

    def forward(self, x):
        return self.inner(x) + torch.randn(4)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Neighbourly, "with the batch it is in; expected at most 0.001"),
        (Moody, "gives other outputs for the same inputs"),
    ],
)
def test_models_whose_outputs_are_not_the_samples_own(monkeypatch, model, words):
    _, unwell = findings(monkeypatch, small_runs.loaded(model()))
    assert len(unwell) == 1
    assert words in unwell[0]


def test_a_device_that_is_not_there_ends_the_examination():
    found = list(examine(RunConfig(device="cuda:77")))
    assert [one.well for one in found[-2:]] == [True, False]
    assert found[-1].text.startswith("device 'cuda:77' cannot be used: ")


def test_a_model_that_is_not_there():
    found = list(examine(RunConfig(model="digit-cn")))
    assert not found[-1].well
    assert "digit-cn" in found[-1].text


def test_only_a_few_samples_of_ones_own_data_are_read(monkeypatch):
    asked = []
    monkeypatch.setattr(doctor, "load_subject", lambda config: asked.append(config.n) or small_runs.loaded())
    for settings in ({"data": "folder"}, {"data": "folder", "n": 5}, {}):
        list(examine(RunConfig(**settings)))
    assert asked == [16, 5, None]
