"""Jobs to records: what is measured, what is left alone, and what a failure does."""

import io
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import small_models
import small_runs
import torch
from rich.console import Console
from small_runs import broken, files, forwards, loaded, made_metric, mean_of_map, only, records, run, store

import cardgen
from cardgen import runner, session
from cardgen.config import RunConfig
from cardgen.errors import CardgenError
from cardgen.evaluating import describe, related
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.plan import make_plan
from cardgen.records import Record, load
from cardgen.study import Segment, StudyKey
from cardgen.subjects.black_box import BlackBox

FEW = ("vanilla_gradients", "noise", "edges")
FAST = {"resamples": 100}


class Around(torch.nn.Module):
    """A module that hides what it calls."""

    def __init__(self, function):
        super().__init__()
        self._call = (function,)

    def forward(self, inputs):
        return self._call[0](inputs)


@pytest.fixture
def few(monkeypatch):
    """Three methods of which two are controls, and two metrics: one judged against noise, one described."""
    only(monkeypatch, FEW, [made_metric("judged", rule="vs_noise"), made_metric("told")])


def record(out, metric="judged", method="vanilla_gradients"):
    return load(Record, out / "evaluations" / small_runs.SLUG / method / f"{metric}.json")


def change(monkeypatch, registry, key, **fields):
    """Raise a plug-in's version, say."""
    item = registry[key]
    changed = replace(item, entry=item.entry.model_copy(update=fields))
    monkeypatch.setitem(registry._items, key, changed)


@pytest.mark.usefixtures("few")
def test_one_run_leaves_records_of_methods_and_of_judged_controls(tmp_path):
    outcome = run(loaded(), tmp_path, thresholds=FAST)
    assert (len(outcome.written), outcome.current, outcome.kept, outcome.errors) == (4, 0, 0, [])
    assert sorted(path.removeprefix("evaluations/tiny-images/") for path in records(tmp_path)) == [
        "controls/edges/judged.json",
        "controls/noise/judged.json",
        "subject.json",
        "vanilla_gradients/judged.json",
        "vanilla_gradients/method.json",
        "vanilla_gradients/told.json",
    ]
    found = record(tmp_path)
    assert found.n == 24
    assert found.passes == 48
    assert set(found.controls) == {"noise", "edges"}
    assert found.interval is not None
    assert found.interval[0] < found.estimate < found.interval[1]


@pytest.mark.usefixtures("few")
def test_a_second_run_measures_nothing_and_writes_nothing(tmp_path):
    of = loaded()
    run(of, tmp_path, thresholds=FAST)
    before = files(tmp_path)
    again = loaded()
    with forwards(again.subject.model) as seen:
        outcome = run(again, tmp_path, thresholds=FAST)
    assert (outcome.written, outcome.current) == ([], 4)
    assert seen == []
    assert files(tmp_path) == before


def test_a_record_is_on_disk_before_the_next_job_starts(tmp_path, monkeypatch):
    def second(study):
        assert record(tmp_path, "first").verdict == "descriptive"
        return mean_of_map(study)

    only(monkeypatch, FEW, [made_metric("first"), made_metric("second", second)])
    assert [item.verdict for item in run(loaded(), tmp_path).written] == ["descriptive", "descriptive"]


def test_a_metric_that_raises_is_an_error_record_and_the_others_go_on(tmp_path, monkeypatch):
    only(monkeypatch, FEW, [made_metric("a_broken", broken), made_metric("told")])
    outcome = run(loaded(), tmp_path)
    assert [(item.metric, item.verdict) for item in outcome.written] == [("a_broken", "error"), ("told", "descriptive")]
    assert record(tmp_path, "a_broken").reason == "ValueError in broken: maps [n, h, w] do not fit [/bold]"
    assert record(tmp_path, "a_broken").estimate is None


def test_a_method_that_stumbles_over_the_model_is_an_error_record_and_the_others_go_on(tmp_path, monkeypatch):
    def stumbles(model, example):
        raise ValueError("no such thing")

    only(monkeypatch, ["vanilla_gradients", "grad_cam"], [made_metric("told")])
    monkeypatch.setitem(METHODS._items, "grad_cam", replace(METHODS["grad_cam"], fits=stumbles))
    outcome = run(loaded(), tmp_path, methods=("all",))
    assert [(item.method, item.verdict) for item in outcome.written] == [
        ("grad_cam", "error"),
        ("vanilla_gradients", "descriptive"),
    ]
    assert outcome.written[0].reason == "ValueError in stumbles: no such thing"


def test_a_model_that_cannot_be_copied_is_measured_where_no_copy_is_needed(tmp_path, monkeypatch):
    model = small_runs.convolutional()
    model.lock = threading.Lock()
    only(monkeypatch, ["vanilla_gradients", "guided_backprop"], ["implementation_invariance", "sparsity"])
    outcome = run(loaded(model), tmp_path, methods=("all",))
    why = "the model cannot be copied (cannot pickle '_thread.lock' object)"
    skips = {(item.method, item.metric): item.reason for item in outcome.written if item.verdict == "skipped"}
    assert skips == {
        ("guided_backprop", "implementation_invariance"): f"no equivalent network can be derived: {why}",
        ("guided_backprop", "sparsity"): why,
        ("vanilla_gradients", "implementation_invariance"): f"no equivalent network can be derived: {why}",
    }
    assert [(item.method, item.metric) for item in outcome.written if item.verdict == "descriptive"] == [
        ("vanilla_gradients", "sparsity")
    ]


def test_siblings_are_measured_counted_and_end_in_records(tmp_path, monkeypatch):
    """Every metric between models, on a whole run; what is forwarded through siblings counts as well."""
    keys = [key for key in METRICS if METRICS[key].entry.rule in ("vs_baseline", "contrast_matched_noise")]
    keys += ["linearity", "data_randomization"]
    only(monkeypatch, ["vanilla_gradients", "noise"], [*keys, "model_weight_randomization"])
    of = related(loaded(n=24), small_models.siblings_of(loaded().subject.model))
    outcome = run(of, tmp_path, metrics=tuple(keys), n=24)
    assert outcome.errors == []
    assert [(one.method, one.metric) for one in outcome.skipped] == [
        (method, "input_consistency") for method in ("noise", "vanilla_gradients")
    ]
    assert all(record(tmp_path, key).rule.name == METRICS[key].entry.rule for key in keys)
    assert record(tmp_path, "repeatability").controls["baseline"].kind == "prior"
    assert outcome.work.forwarded > 0
    again = run(of, tmp_path, metrics=tuple(keys), n=24)
    assert (again.written, again.work.forwarded) == ([], 0)
    alone = run(of, tmp_path / "alone", metrics=("repeatability",), n=24)
    # maps of the model and of its sibling, by one pass there and one back each, and the picture's maps, which are among them
    assert alone.work.forwarded == 4 * 24


def test_an_error_is_tried_again_and_nothing_else_is(tmp_path, monkeypatch):
    only(monkeypatch, FEW, [made_metric("a", broken), made_metric("told")])
    run(loaded(), tmp_path)
    told = files(tmp_path / "evaluations" / small_runs.SLUG / "vanilla_gradients")
    only(monkeypatch, FEW, [made_metric("a"), made_metric("told")])
    outcome = run(loaded(), tmp_path)
    assert [(item.metric, item.verdict) for item in outcome.written] == [("a", "descriptive")]
    after = files(tmp_path / "evaluations" / small_runs.SLUG / "vanilla_gradients")
    assert {path.name for path in after if after[path] != told[path]} == {"a.json"}


def test_a_cardgen_error_inside_a_metric_is_told_in_its_own_words(tmp_path, monkeypatch):
    def refuses(study):
        raise CardgenError("images are too small; expected 16 pixels, got 12; choose another metric")

    only(monkeypatch, FEW, [made_metric("refuses", refuses)])
    run(loaded(), tmp_path)
    assert (
        record(tmp_path, "refuses").reason == "images are too small; expected 16 pixels, got 12; choose another metric"
    )


def test_scores_that_are_not_finite_are_an_error(tmp_path, monkeypatch):
    only(monkeypatch, FEW, [made_metric("nan", lambda study: small_runs.scores_of(study, np.full(study.n, np.nan)))])
    run(loaded(), tmp_path)
    assert record(tmp_path, "nan").verdict == "error"
    assert "scores hold NaN or infinities" in record(tmp_path, "nan").reason


def test_a_control_that_fails_fails_what_is_compared_with_it_and_nothing_else(tmp_path, monkeypatch):
    only(monkeypatch, FEW, [made_metric("judged", rule="vs_noise"), made_metric("told")])

    def explode(*_, draw=0):
        raise RuntimeError("no noise today")

    monkeypatch.setitem(METHODS._items, "noise", replace(METHODS["noise"], function=explode))
    run(loaded(), tmp_path, thresholds=FAST)
    assert record(tmp_path).reason == "RuntimeError in explode: no noise today"
    assert record(tmp_path, "told").verdict == "descriptive"


def test_a_method_that_raises_fails_alone_and_stands_on_cards_without_a_picture(tmp_path, monkeypatch):
    only(monkeypatch, (*FEW, "grad_cam"), [made_metric("told")])

    def explode(*_):
        raise RuntimeError("no gradients today")

    monkeypatch.setitem(METHODS._items, "vanilla_gradients", replace(METHODS["vanilla_gradients"], function=explode))
    outcome = run(loaded(), tmp_path, methods=("vanilla_gradients", "grad_cam"))
    assert [(item.method, item.verdict) for item in outcome.written] == [
        ("vanilla_gradients", "error"),
        ("grad_cam", "descriptive"),
    ]
    folder = tmp_path / "evaluations" / small_runs.SLUG
    assert "picture_sha256" not in json.loads((folder / "vanilla_gradients" / "method.json").read_text())
    assert not (folder / "vanilla_gradients" / "example.png").exists()
    assert (folder / "grad_cam" / "example.png").is_file()


@pytest.mark.parametrize(
    ("registry", "key", "settings", "redone"),
    [
        (METRICS, "told", {}, {"vanilla_gradients/told"}),
        (METRICS, "judged", {}, {"vanilla_gradients/judged", "noise/judged", "edges/judged"}),
        (METHODS, "vanilla_gradients", {}, {"vanilla_gradients/told", "vanilla_gradients/judged"}),
        (None, "", {"seed": 1}, {"vanilla_gradients/told", "vanilla_gradients/judged", "noise/judged", "edges/judged"}),
    ],
    ids=["a metric's version", "a judged metric's version", "a method's version", "the seed"],
)
@pytest.mark.usefixtures("few")
def test_only_what_a_change_touches_runs_again(tmp_path, monkeypatch, registry, key, settings, redone):
    run(loaded(), tmp_path, thresholds=FAST)
    if registry is not None:
        change(monkeypatch, registry, key, version=2)
    outcome = run(loaded(seed=settings.get("seed", 0)), tmp_path, thresholds=FAST, **settings)
    assert {f"{item.method}/{item.metric}" for item in outcome.written} == redone
    assert outcome.current == 4 - len(redone)


def test_a_method_parameter_touches_that_method_alone(tmp_path, monkeypatch):
    only(monkeypatch, (*FEW, "integrated_gradients"), [made_metric("told")])
    both = ("vanilla_gradients", "integrated_gradients")
    run(loaded(), tmp_path, methods=both)
    method = METHODS["integrated_gradients"]

    def fewer(*arguments, steps=5):
        return method.function(*arguments, steps=steps)

    monkeypatch.setitem(METHODS._items, "integrated_gradients", replace(method, function=fewer))
    outcome = run(loaded(), tmp_path, methods=both)
    assert [item.method for item in outcome.written] == ["integrated_gradients"]
    assert outcome.written[0].parameters["steps"] == 5


def test_other_weights_or_other_data_are_measured_again(tmp_path, monkeypatch):
    only(monkeypatch, FEW, [made_metric("told")])
    first = run(loaded(), tmp_path).written[0]
    other = small_runs.convolutional()
    with torch.no_grad():
        other.head.bias[0] += 1e-3
    second = run(loaded(other), tmp_path).written[0]
    third = run(loaded(other, 23), tmp_path, force=False)
    changed = {name for name in first.key_parts if first.key_parts[name] != second.key_parts[name]}
    assert changed == {"weights"}
    assert third.kept == 0  # whether the 24th was the same cannot be known any more


@pytest.mark.usefixtures("few")
def test_a_threshold_decides_again_without_a_forward_pass(tmp_path):
    run(loaded(), tmp_path, thresholds=FAST)
    before = record(tmp_path)
    of = loaded()
    with forwards(of.subject.model) as seen:
        outcome = run(of, tmp_path, thresholds={**FAST, "samples": 25})
    assert seen == []
    assert {f"{item.method}/{item.metric}" for item in outcome.written} == {
        "vanilla_gradients/judged",
        "noise/judged",
        "edges/judged",
    }
    after = record(tmp_path)
    assert after.rule.thresholds["samples"] == 25
    assert after.verdict == "inconclusive"
    assert "at least 25 are needed" in after.reason
    assert (after.estimate, after.interval, after.key) == (before.estimate, before.interval, before.key)


@pytest.mark.usefixtures("few")
def test_the_bootstrap_s_size_is_a_threshold_too(tmp_path):
    run(loaded(), tmp_path, thresholds=FAST)
    of = loaded()
    with forwards(of.subject.model) as seen:
        outcome = run(of, tmp_path, thresholds={"resamples": 200})
    assert (seen, len(outcome.written)) == ([], 4)
    assert record(tmp_path, "told").rule.thresholds == {"resamples": 200}


def test_another_rule_of_a_metric_decides_again_from_stored_scores(tmp_path, monkeypatch):
    only(monkeypatch, FEW, [made_metric("told")])
    run(loaded(), tmp_path, thresholds=FAST)
    assert record(tmp_path, "told").rule.name == "descriptive"
    only(monkeypatch, FEW, [made_metric("told", rule="axiom")])
    of = loaded()
    with forwards(of.subject.model) as seen:
        outcome = run(of, tmp_path, thresholds=FAST)
    assert (len(outcome.written) > 0, sum(seen)) == (True, 0)
    assert record(tmp_path, "told").rule.name == "axiom"


@pytest.mark.usefixtures("few")
def test_a_threshold_of_many_digits_does_not_rewrite_records_forever(tmp_path):
    thresholds = {**FAST, "effect": 0.123456789}
    run(loaded(), tmp_path, thresholds=thresholds)
    assert run(loaded(), tmp_path, thresholds=thresholds).written == []


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:200])])
@pytest.mark.usefixtures("few")
def test_scores_that_are_gone_or_broken_are_measured_again_to_the_same_records(tmp_path, damage):
    run(loaded(), tmp_path, thresholds=FAST)
    before = records(tmp_path)
    for path in list((tmp_path / "evaluations").rglob("*.npz")):
        damage(path)
    for path in (tmp_path / "evaluations").rglob("*.json"):
        path.unlink()
    of = loaded()
    with forwards(of.subject.model) as seen:
        assert len(run(of, tmp_path, thresholds=FAST).written) == 4
    assert len(seen) > 0
    assert records(tmp_path) == before


@pytest.mark.usefixtures("few")
def test_records_that_are_gone_are_decided_from_stored_scores(tmp_path):
    run(loaded(), tmp_path, thresholds=FAST)
    before = records(tmp_path)
    for path in (tmp_path / "evaluations").rglob("*/*/judged.json"):
        path.unlink()
    of = loaded()
    with forwards(of.subject.model) as seen:
        run(of, tmp_path, thresholds=FAST)
    assert seen == []
    assert records(tmp_path) == before


def test_a_method_beyond_core_is_compared_on_the_samples_that_it_is_asked_for(tmp_path, monkeypatch):
    entry = METHODS["vanilla_gradients"].entry.model_copy(update={"key": "beyond"})
    beyond = replace(METHODS["vanilla_gradients"], entry=entry)
    only(monkeypatch, [beyond, "vanilla_gradients", "noise"], [made_metric("judged", rule="vs_noise", size="again")])
    assert not run(loaded(n=60), tmp_path, methods=("all",), thresholds=FAST).errors
    assert (record(tmp_path).n, record(tmp_path, method="beyond").n) == (40, 24)
    assert record(tmp_path).controls.keys() == record(tmp_path, method="beyond").controls.keys()


@pytest.mark.usefixtures("few")
def test_a_smaller_budget_never_replaces_a_larger_one(tmp_path):
    of = loaded(n=80)
    assert len(run(of, tmp_path, budget="standard", thresholds=FAST).written) == 4
    before = files(tmp_path)
    outcome = run(loaded(n=80), tmp_path, budget="quick", thresholds=FAST)
    assert (outcome.written, outcome.kept) == ([], 4)
    assert files(tmp_path) == before
    assert len(run(loaded(n=80), tmp_path, budget="quick", force=True, thresholds=FAST).written) == 4
    assert record(tmp_path).n == 64
    assert len(run(loaded(n=80), tmp_path, budget="standard", thresholds=FAST).written) == 4
    assert record(tmp_path).n == 80


@pytest.mark.usefixtures("few")
def test_fewer_samples_at_the_same_budget_are_a_smaller_budget(tmp_path):
    run(loaded(), tmp_path, thresholds=FAST)
    assert run(loaded(cut=20), tmp_path, n=20, thresholds=FAST).kept == 4
    assert record(tmp_path).n == 24


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("change", ["nothing", "images", "seed"])
def test_a_larger_budget_is_kept_only_where_it_answers_the_same_question(tmp_path, change):
    run(loaded(n=80), tmp_path, budget="standard", thresholds=FAST)
    seed = 1 if change == "seed" else 0
    other = loaded(n=80, seed=seed)
    if change == "images":
        other = describe(replace(other.subject, inputs=1 - other.subject.inputs), None, small_runs.SLUG)
    assert run(other, tmp_path, budget="quick", seed=seed, thresholds=FAST).kept == (4 if change == "nothing" else 0)


def test_an_error_or_a_skip_at_a_larger_budget_is_not_worth_keeping(tmp_path, monkeypatch):
    only(monkeypatch, FEW, [made_metric("a", broken), made_metric("masked", needs=("masks",))])
    run(loaded(n=80, masks=False), tmp_path, budget="standard")
    only(monkeypatch, FEW, [made_metric("a"), made_metric("masked", needs=("masks",))])
    outcome = run(loaded(n=80), tmp_path, budget="quick")
    assert [(item.metric, item.verdict) for item in outcome.written] == [
        ("a", "descriptive"),
        ("masked", "descriptive"),
    ]


def test_a_metric_that_needs_masks_is_skipped_without_and_measured_once_there_are_some(tmp_path, monkeypatch):
    only(monkeypatch, FEW, [made_metric("masked", needs=("masks",))])
    run(loaded(masks=False), tmp_path)
    found = record(tmp_path, "masked")
    assert (found.verdict, found.reason) == ("skipped", "the data has no ground-truth masks")
    assert run(loaded(masks=False), tmp_path).written == []
    assert run(loaded(), tmp_path).written[0].verdict == "descriptive"
    assert record(tmp_path, "masked").estimate is not None


def test_a_method_without_its_features_is_skipped_and_does_not_stop_the_run(tmp_path, monkeypatch):
    only(monkeypatch, (*FEW, "grad_cam"), [made_metric("told")])
    of = loaded(small_runs.flat_model())
    outcome = run(of, tmp_path, methods=("grad_cam", "vanilla_gradients"))
    assert [(item.method, item.verdict) for item in outcome.written] == [
        ("grad_cam", "skipped"),
        ("vanilla_gradients", "descriptive"),
    ]
    assert "Conv2d" in outcome.written[0].reason
    method = json.loads((tmp_path / "evaluations" / small_runs.SLUG / "grad_cam" / "method.json").read_text())
    assert "picture_sha256" not in method


def at_chance(of):
    return of.subject.targets * 0 + torch.arange(len(of.subject)) % 4


@pytest.mark.usefixtures("few")
def test_at_chance_level_all_is_skipped_but_maps_are_drawn_and_force_unhealthy_measures(tmp_path):
    labels = at_chance(loaded())
    outcome = run(loaded(labels=labels), tmp_path, thresholds=FAST)
    assert {item.verdict for item in outcome.written} == {"skipped"}
    assert outcome.errors == []
    assert record(tmp_path).reason.startswith("model at chance level (accuracy 0.")
    assert record(tmp_path).reason.endswith("n = 24)")
    assert (tmp_path / "evaluations" / small_runs.SLUG / "vanilla_gradients" / "example.png").is_file()
    assert run(loaded(labels=labels), tmp_path, thresholds=FAST).written == []
    forced = run(loaded(labels=labels), tmp_path, force_unhealthy=True, thresholds=FAST)
    assert "skipped" not in {item.verdict for item in forced.written}
    assert {item.verdict for item in run(loaded(labels=labels), tmp_path, thresholds=FAST).written} == {"skipped"}


def test_a_skip_for_another_reason_is_said(tmp_path, monkeypatch):
    only(monkeypatch, FEW, [made_metric("masked", needs=("masks",))])
    run(loaded(masks=False), tmp_path)
    run(loaded(masks=False, labels=at_chance(loaded())), tmp_path)
    assert "chance level" in record(tmp_path, "masked").reason


@pytest.mark.usefixtures("few")
def test_without_labels_health_is_unknown_and_verdicts_are_given(tmp_path):
    of = loaded()
    run(of, tmp_path, thresholds=FAST)
    assert of.record.health == "unknown"
    assert record(tmp_path).verdict in ("pass", "fail", "inconclusive")


@pytest.mark.usefixtures("few")
def test_cut_in_pieces_in_any_order_gives_the_same_records(tmp_path, monkeypatch):
    only(monkeypatch, (*FEW, "rise"), ["deletion", "insertion", "sparsity", "model_weight_randomization"])
    methods, metrics = (
        ("vanilla_gradients", "rise"),
        ("deletion", "model_weight_randomization", "insertion", "sparsity"),
    )
    monkeypatch.setitem(METHODS._items, "rise", _few_masks())
    run(loaded(), tmp_path / "whole", methods=methods, thresholds=FAST)
    for metric in metrics:
        for method in reversed(methods):
            run(loaded(), tmp_path / "pieces", methods=(method,), metrics=(metric,), thresholds=FAST)
    run(loaded(), tmp_path / "reversed", methods=methods[::-1], metrics=metrics[::-1], thresholds=FAST)
    assert records(tmp_path / "pieces") == records(tmp_path / "whole")
    assert records(tmp_path / "reversed") == records(tmp_path / "whole")
    pictures = [
        {path.parent.name: path.read_bytes() for path in (tmp_path / name).rglob("example.png")}
        for name in ("whole", "pieces", "reversed")
    ]
    assert len(pictures[0]) == 2
    assert pictures[0] == pictures[1] == pictures[2]


def _few_masks():
    method = METHODS["rise"]

    def rise(*arguments, n_masks=20):
        return method.function(*arguments, n_masks=20)

    return replace(method, function=rise)


@pytest.mark.usefixtures("few")
def test_an_interruption_at_any_write_loses_nothing_that_was_written(tmp_path, monkeypatch):
    run(loaded(), tmp_path / "whole", thresholds=FAST)
    whole = records(tmp_path / "whole")
    real = runner.save
    for after in range(4):
        written = []

        def save(record, path, written=written, after=after):
            if len(written) == after:
                raise KeyboardInterrupt
            written.append(path)
            real(record, path)

        monkeypatch.setattr(runner, "save", save)
        out = tmp_path / f"after {after}"
        with pytest.raises(KeyboardInterrupt):
            run(loaded(), out, thresholds=FAST)
        monkeypatch.setattr(runner, "save", real)
        outcome = run(loaded(), out, thresholds=FAST)
        assert (outcome.current, len(outcome.written)) == (after, 4 - after)
        assert records(out) == whole


@pytest.mark.usefixtures("few")
def test_a_run_that_ended_before_its_last_picture_draws_it_next_time(tmp_path):
    run(loaded(), tmp_path, thresholds=FAST)
    before = records(tmp_path)
    folder = store(tmp_path).root / "vanilla_gradients"
    for name in ("method.json", "example.png"):
        (folder / name).unlink()
        outcome = run(loaded(), tmp_path, thresholds=FAST)
        assert outcome.written == []
        assert records(tmp_path) == before
        assert (folder / "example.png").is_file()
    (folder / "example.png").write_bytes(b"half a picture")
    run(loaded(), tmp_path, thresholds=FAST)
    assert (folder / "example.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("few")
def test_a_smaller_budget_leaves_the_larger_one_s_method_and_picture(tmp_path, monkeypatch):
    run(loaded(n=80), tmp_path, budget="standard", metrics=("told",), thresholds=FAST)
    before = files(store(tmp_path).root / "vanilla_gradients")
    monkeypatch.setattr(runner, "PICTURES", 2)
    run(loaded(n=80), tmp_path, budget="quick", thresholds=FAST)
    after = files(store(tmp_path).root / "vanilla_gradients")
    assert {path: after[path] for path in before} == before
    assert len(after) == len(before) + 1
    run(loaded(n=80), tmp_path, budget="standard", thresholds=FAST)
    method = json.loads((store(tmp_path).root / "vanilla_gradients" / "method.json").read_text())
    assert method["key"] != json.loads(before[store(tmp_path).root / "vanilla_gradients" / "method.json"][0])["key"]


@pytest.mark.usefixtures("few")
def test_force_measures_all_again_to_the_same_bytes_outside_provenance(tmp_path):
    run(loaded(), tmp_path, thresholds=FAST)
    before = records(tmp_path)
    of = loaded()
    with forwards(of.subject.model) as seen:
        assert len(run(of, tmp_path, force=True, thresholds=FAST).written) == 4
    assert sum(seen) >= 48
    assert records(tmp_path) == before


def test_a_key_says_what_changed(tmp_path, monkeypatch):
    only(monkeypatch, FEW, [made_metric("told")])
    a = run(loaded(), tmp_path / "a").written[0]
    b = run(loaded(seed=5), tmp_path / "b", seed=5).written[0]
    assert {name for name in a.key_parts if a.key_parts[name] != b.key_parts[name]} == {"seed"}


class Watcher(runner.Silent):
    def __init__(self):
        self.told = []

    def begin(self, jobs, passes):
        self.told.append(("begin", jobs, passes))

    def start(self, job):
        self.told.append(("start", job.method.entry.key, job.metric.entry.key))

    def advance(self, samples):
        self.told.append(("advance", samples))

    def done(self, job, record):
        self.told.append(("done", None if record is None else record.verdict))


@pytest.mark.usefixtures("few")
def test_whoever_watches_hears_of_every_job_and_every_sample(tmp_path):
    watcher = Watcher()
    of = loaded()
    run(of, tmp_path, watcher, thresholds=FAST)
    kinds = [what[0] for what in watcher.told]
    begun = watcher.told[0]
    assert begun[0] == "begin"
    assert (
        begun[1] == kinds.count("start") == kinds.count("done") == 4 + 3 + 1
    )  # records; three draws of noise, one prior
    assert sum(what[1] for what in watcher.told if what[0] == "advance") == 2 * 24  # gradients of 24 samples, once
    assert begun[2] == 2 * 2 * 24  # an estimate counts what both metrics share twice


def test_evaluate_leaves_model_data_and_the_global_generators_alone(monkeypatch):
    only(monkeypatch, (*FEW, "grad_cam"), ["sparsity", "model_weight_randomization"])
    of = small_models.small_subject(small_runs.convolutional().train(), 12, 10, 9)
    np_before = np.random.get_state()[1].copy()
    with small_models.untouched(of.model, of.inputs, of.targets, of.masks):
        found = cardgen.evaluate("vanilla_gradients,grad_cam", *of.call, masks=of.masks)
    assert [(item.method, item.metric) for item in found] == [
        (method, metric)
        for method in ("vanilla_gradients", "grad_cam")
        for metric in ("model_weight_randomization", "sparsity")
    ]
    assert not [item.reason for item in found if item.verdict == "error"]
    np.testing.assert_array_equal(np.random.get_state()[1], np_before)


def test_evaluate_forwards_the_samples_of_its_budget_and_no_more(monkeypatch):
    only(monkeypatch, FEW, [made_metric("told", size="few")])
    of = small_models.small_subject(small_runs.convolutional(), 12, 10, 70)
    with forwards(of.model) as seen:
        found = cardgen.evaluate("vanilla_gradients", *of.call)
    assert found[0].n == 8
    assert sum(seen) == 70 + 2 * 8  # all once for the predictions, then gradients of eight


@pytest.mark.parametrize("other", ["targets", "masks", "space"])
def test_evaluate_does_not_answer_from_what_was_kept_of_another_question(tmp_path, monkeypatch, other):
    def told(study):
        """Depends on all three."""
        space = study.subject.space.low[0]
        values = study.maps().double()
        return small_runs.scores_of(study, (values * study.subject.masks[: study.n]).mean((1, 2)).numpy() + space)

    only(monkeypatch, FEW, [made_metric("told", told)])
    of = small_models.small_subject(small_runs.convolutional(), 12, 10)
    space = cardgen.Space()
    changed = {"targets": (of.targets + 1) % 4, "masks": ~of.masks, "space": cardgen.Space(low=(-1.0,))}[other]
    first = cardgen.evaluate("vanilla_gradients", *of.call, masks=of.masks, space=space, out=tmp_path)[0]
    values = {"targets": of.targets, "masks": of.masks, "space": space, other: changed}
    second = cardgen.evaluate("vanilla_gradients", of.model, of.inputs, values["targets"], masks=values["masks"],
                              space=values["space"], out=tmp_path)[0]  # fmt: skip
    assert second.estimate != first.estimate


@pytest.mark.parametrize("around", [BlackBox, Around])
def test_evaluate_tells_models_apart_that_differ_in_their_code_alone(tmp_path, monkeypatch, around):
    only(monkeypatch, ("occlusion", "noise"), [made_metric("told")])
    of = small_models.small_subject(small_runs.convolutional(), 12, 10)

    def told(function):
        return cardgen.evaluate("occlusion", around(function), *of.call[1:], out=tmp_path)[0]

    first, other = told(of.model), told(lambda inputs: -of.model(inputs))
    assert first.estimate != other.estimate
    assert told(lambda inputs: -of.model(inputs)).provenance == other.provenance, "known, and not measured again"


def test_another_layer_is_another_question_to_methods_of_class_activation_alone(tmp_path, monkeypatch):
    only(monkeypatch, (*FEW, "grad_cam"), [made_metric("told")])
    both = ("vanilla_gradients", "grad_cam")
    of = loaded()
    run(of, tmp_path, methods=both)
    named = replace(of, subject=replace(of.subject, layer="features.relu1"))
    outcome = run(named, tmp_path, methods=both, layer="features.relu1")
    assert [item.method for item in outcome.written] == ["grad_cam"]
    assert run(named, tmp_path, methods=both, layer="features.relu1").written == []


def session_on(of, monkeypatch, tmp_path, **settings):
    """`cardgen run` on a given subject: its exit status and what it said."""
    monkeypatch.setattr(session, "load_subject", lambda config: of)
    text = io.StringIO()
    config = RunConfig(methods=("vanilla_gradients",), out=tmp_path, **settings)
    status = session.run_session(config, Console(file=text, width=200))
    return status, text.getvalue()


def test_a_failure_ends_a_run_with_status_1_after_the_cards_are_built(tmp_path, monkeypatch):
    only(monkeypatch, FEW, [made_metric("a_broken", broken), made_metric("told")])
    status, said = session_on(loaded(), monkeypatch, tmp_path)
    assert status == 1
    assert "failed: vanilla_gradients · a_broken: ValueError in broken: maps [n, h, w] do not fit [/bold]" in said
    assert (tmp_path / "cards" / "vanilla_gradients" / "README.md").is_file()
    only(monkeypatch, FEW, [made_metric("a_broken"), made_metric("told")])
    status, said = session_on(loaded(), monkeypatch, tmp_path)
    assert (status, "1 evaluation measured, 1 up to date." in said) == (0, True)


@pytest.mark.usefixtures("few")
def test_two_runs_give_the_same_cards_byte_for_byte_and_the_second_measures_nothing(tmp_path, monkeypatch):
    assert session_on(loaded(), monkeypatch, tmp_path, thresholds=FAST)[0] == 0
    before = files(tmp_path)
    assert tmp_path / "cards" / "README.md" in before
    status, said = session_on(loaded(), monkeypatch, tmp_path, thresholds=FAST)
    assert status == 0
    assert "0 evaluations measured, 4 up to date." in said
    assert "0 files of cards written" in said
    assert files(tmp_path) == before


@pytest.mark.usefixtures("few")
def test_a_dry_run_says_what_is_missing_and_writes_nothing(tmp_path, monkeypatch):
    status, said = session_on(loaded(), monkeypatch, tmp_path, dry_run=True)
    assert status == 0
    assert "vanilla_gradients: 2 evaluations, about 48 samples to forward" in said
    assert "  n = 24: judged, told\n" in said
    assert "4 evaluations to do, 0 up to date, 0 kept. Nothing was written." in said
    assert list(tmp_path.iterdir()) == []
    session_on(loaded(), monkeypatch, tmp_path, metrics=("told",), thresholds=FAST)
    before = files(tmp_path)
    _, said = session_on(loaded(), monkeypatch, tmp_path, dry_run=True, thresholds=FAST)
    assert "3 evaluations to do, 1 up to date" in said
    assert "  each with n = 24: judged\n" in said  # the controls and the method alike
    assert files(tmp_path) == before


def test_the_plan_s_records_lie_where_the_store_looks_for_them(tmp_path, monkeypatch):
    only(monkeypatch, FEW, [made_metric("judged", rule="vs_noise")])
    of = loaded()
    run(of, tmp_path, thresholds=FAST)
    plan = make_plan(RunConfig(methods=("vanilla_gradients",)), of)
    for job in plan.jobs:
        assert store(tmp_path).record(store(tmp_path).path(job.method.entry, job.metric.entry.key)) is not None


@pytest.mark.usefixtures("few")
def test_maps_of_a_method_that_is_done_are_dropped_and_what_belongs_to_the_subject_stays(tmp_path, monkeypatch):
    only(monkeypatch, (*FEW, "grad_cam"), ["deletion"])
    of = loaded(n=4)
    run(of, tmp_path, methods=("vanilla_gradients", "grad_cam"), thresholds=FAST)
    kept = {key.key if isinstance(key, Segment) else key for key in of.subject.memo._values}
    assert "ties" in kept
    assert not [key for key in kept if isinstance(key, StudyKey)]
