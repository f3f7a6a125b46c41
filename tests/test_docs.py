"""The code in docs/ runs and gives what the page says."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_models import Linear, tiny_subject
from small_runs import SHIPPED, loaded, only

import cardgen
from cardgen import session
from cardgen.cli import main
from cardgen.config import RunConfig
from cardgen.kappa import kappa
from cardgen.metrics import METRICS
from cardgen.own_methods import own_methods

DOCS = Path(__file__).resolve().parent.parent / "docs"


def code_of(page):
    """The Python code on a page."""
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    return code


@pytest.fixture
def written(monkeypatch):
    """The metric of docs/write-a-metric.md, registered for one test."""
    monkeypatch.setattr(METRICS, "_items", dict(SHIPPED[id(METRICS)]))
    names = {}
    exec(compile(code_of("write-a-metric.md"), "write-a-metric.md", "exec"), names)
    return names["relevance_rank_accuracy"]


def test_the_metric_of_the_page_by_hand(written):
    small = tiny_subject(2)
    masks = torch.zeros(2, 12, 10, dtype=torch.bool)
    masks[0, 0, :4] = True
    maps = torch.zeros(2, 12, 10)
    maps[0, 0, 2:6] = torch.tensor([4.0, 3.0, 2.0, 1.0])  # two of the four most salient pixels are in the mask of four
    found = cardgen.measure("relevance_rank_accuracy", *small.call, maps=maps, masks=masks)
    assert found.values[0] == 0.5
    assert found.valid.tolist() == [True, False]
    assert found.flat.tolist() == [False, True]


def test_it_runs_on_the_whole_line_and_noise_does_not_pass_it(written, tmp_path, monkeypatch):
    metric = METRICS["relevance_rank_accuracy"]
    only(monkeypatch, ("vanilla_gradients", "noise", "noise_4", "planted_truth"), [metric])
    small = tiny_subject(24)
    records = cardgen.evaluate("vanilla_gradients", *small.call, masks=small.masks, out=tmp_path, name="mine")
    assert [record.metric for record in records] == ["relevance_rank_accuracy"]
    verdicts = {
        path.parent.name: re.search(r'"verdict": "(\w+)"', path.read_text())[1]
        for path in (tmp_path / "evaluations/mine/controls").rglob("*.json")
    }
    assert verdicts["planted_truth"] == "pass"
    assert "pass" not in (verdicts["noise"], verdicts["noise_4"])


def test_a_sample_s_score_is_its_own(written):
    small = tiny_subject()
    everything = cardgen.measure("relevance_rank_accuracy", *small.call, maps=small.maps, masks=small.masks)
    alone = small.take([3])
    one = cardgen.measure("relevance_rank_accuracy", *alone.call, maps=alone.maps, masks=alone.masks)
    assert np.array_equal(one.values, everything.values[[3]])


@pytest.fixture
def own_file(tmp_path):
    """The method of docs/write-a-method.md in a file."""
    file = tmp_path / "squared_gradient.py"
    file.write_text(code_of("write-a-method.md"), encoding="utf-8")
    return file


def test_the_method_of_the_page_by_hand(own_file):
    # logits (Σ w·x, 0) with w = 1 … 24 in order: the map is w² summed over the three channels, whatever the image
    weights = torch.arange(1.0, 25).view(3, 2, 4)
    with own_methods(RunConfig(method=(own_file,))):
        found = cardgen.explain("squared_gradient", Linear(weights), torch.rand(2, 3, 2, 4), torch.tensor([0, 0]))
    assert found[1, 0, :2].tolist() == [1 + 9**2 + 17**2, 2**2 + 10**2 + 18**2]
    assert torch.equal(found[0], found[1])


def test_it_is_measured_by_the_command_of_the_page(own_file, tmp_path, monkeypatch):
    only(monkeypatch, ("vanilla_gradients", "noise"), [METRICS["sparsity"]])
    monkeypatch.setattr(session, "load_subject", lambda config: loaded())
    command = re.search(
        r"^cardgen (run --method squared_gradient.py) --model", (DOCS / "write-a-method.md").read_text(), re.M
    )
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, command[1].split())
    assert result.exit_code == 0, result.output
    assert "1 evaluation measured, 0 up to date." in result.output
    assert (tmp_path / "cards/squared_gradient/README.md").is_file()


def test_the_agreement_of_the_page():
    page = " ".join((DOCS / "read-a-verdict.md").read_text(encoding="utf-8").split())
    numbers = re.search(
        r"where (\d+) evaluations pass on both sides, (\d+) fail on both, (\d+) pass here alone and (\d+) there alone, "
        r"(\d+) of (\d+) agree and κ is ([\d.]+), with a 95 % interval from (0\.\d+) to (0\.\d+)",
        page,
    )
    both, neither, here, there, same, n = map(int, numbers.groups()[:6])
    pairs = (
        [("pass", "pass")] * both
        + [("fail", "fail")] * neither
        + [("pass", "fail")] * here
        + [("fail", "pass")] * there
    )
    found = kappa(pairs, range(len(pairs)), ("measured", "published"))
    assert (found.same, found.n, f"{found.value:.1f}") == (same, n, numbers[7])
    assert [f"{bound:.2f}" for bound in found.interval] == [numbers[8], numbers[9]]


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", (DOCS / page).read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (DOCS / link).exists()] == []


def test_the_table_of_calibrations_is_what_the_records_say():
    from cardgen.calibration_table import lines

    text = (DOCS / "calibration.md").read_text(encoding="utf-8")
    table = text.split("<!-- table -->\n")[1].split("<!-- /table -->")[0]
    assert table.strip() == "\n".join(lines(DOCS.parent / "evaluations")).strip()
