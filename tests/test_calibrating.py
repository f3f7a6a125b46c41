"""`cardgen calibrate` on a tiny subject: what goes into banks, what is written, and that nothing is done twice."""

import io

import pytest
import small_runs
import torch
from click.testing import CliRunner
from rich.console import Console
from small_models import siblings_of
from small_runs import SLUG, made_metric, only, scores_of

from cardgen import calibrating, cli
from cardgen.budgets import BUDGETS
from cardgen.calibrating import calibrate_session, jobs, linear
from cardgen.calibration_records import LINEAR, Size
from cardgen.config import RunConfig
from cardgen.errors import CardgenError
from cardgen.evaluating import related
from cardgen.forward import logits
from cardgen.metrics import METRICS
from cardgen.plan import Maker
from cardgen.records import Calibration, load

METHODS = [
    "vanilla_gradients",
    "input_x_gradient",
    "noise",
    "noise_4",
    "edges",
    "constant",
    "heavy_noise",
    "keyed_noise",
]
METHODS += ["ones_but_a_corner", "planted_truth"]


def in_mask(study):
    """The mean of the map inside the mask, less that outside: what the planted truth cannot lose."""
    maps, masks = study.maps().double(), study.subject.masks[: study.n]
    scale = maps.flatten(1).amax(1).clamp_min(1e-9)
    inside = (maps * masks).sum((1, 2)) / masks.sum((1, 2))
    return scores_of(study, ((inside - (maps * ~masks).sum((1, 2)) / (~masks).sum((1, 2))) / scale).numpy())


@pytest.fixture
def tiny(monkeypatch):
    judged = made_metric("judged", in_mask, rule="vs_noise")
    only(monkeypatch, METHODS, [judged, "model_weight_randomization", made_metric("told"), "completeness"])
    monkeypatch.setattr(calibrating, "load_subject", lambda config: small_runs.loaded(n=40, cut=config.n))


def calibrate(out, size=Size(images=40, repetitions=4, n=20), **settings):  # noqa: B008
    config = RunConfig(**{"methods": ("vanilla_gradients",), "out": out, **settings})
    console = Console(file=io.StringIO(), width=400)
    assert calibrate_session(config, size, console) == 0
    found = {path.stem: load(Calibration, path) for path in (out / "evaluations" / SLUG / "calibration").glob("*.json")}
    return found, console.file.getvalue()


@pytest.mark.usefixtures("tiny")
class TestRecords:
    def test_a_record_a_metric_whose_verdicts_can_be_wrong(self, tmp_path):
        found, said = calibrate(tmp_path)
        assert set(found) == {"judged", "model_weight_randomization", "completeness"}
        judged = found["judged"]
        assert (judged.n, judged.images, judged.repetitions) == (20, 40, 4)
        assert set(judged.noise) == {"noise", "noise_4"}
        assert set(judged.held_out) == {"constant", "heavy_noise", "keyed_noise", "ones_but_a_corner"}
        assert set(judged.priors) == {"edges"}
        assert judged.truth.estimate == 1
        assert all(share.of == 4 for share in judged.noise.values())
        assert judged.met is None
        assert judged.key_parts["metric_version"] == 1
        assert "| judged |" in said
        assert "not judged" in said

    def test_model_sensitivity_has_a_linear_model_as_its_truth_and_the_mask_as_a_lie(self, tmp_path):
        found, _ = calibrate(tmp_path, metrics=("model_weight_randomization",))
        record = found["model_weight_randomization"]
        assert record.truth.estimate == 1
        assert record.held_out["planted_truth"].estimate == 0
        assert record.held_out["keyed_noise"].estimate == 0

    def test_what_compares_with_siblings_has_linear_ones_for_its_truth(self, tmp_path, monkeypatch):
        keys = ["model_weight_randomization", "data_randomization", "repeatability", "model_contrast_score"]
        only(monkeypatch, METHODS, keys)
        monkeypatch.setattr(calibrating, "load_subject", lambda config: small_runs.loaded(n=40, cut=config.n))
        monkeypatch.setattr(
            calibrating,
            "with_siblings",
            lambda config, loaded, store, tell: related(loaded, siblings_of(loaded.subject.model)),
        )
        found, _ = calibrate(tmp_path, Size(images=40, repetitions=4, n=30))
        assert set(found) == set(keys)
        for key in keys[1:3]:
            record = found[key]
            assert record.truth.estimate == 1
            assert record.held_out["planted_truth"].estimate == 0
        # noise keeps its maps whatever the model: what it passes alone, it does not in the end
        for record in found.values():
            assert all(share.estimate == 0 for share in [*record.noise.values(), *record.held_out.values()])
        contrast = found["model_contrast_score"]
        assert (contrast.truth, contrast.truth_should) == (None, "")
        assert contrast.held_out["planted_truth"].estimate == 0

    def test_what_a_pass_requires_is_measured_as_well(self, tmp_path):
        found, _ = calibrate(tmp_path, metrics=("completeness",))
        assert set(found) == {"completeness", "model_weight_randomization"}
        assert found["completeness"].truth is None

    def test_a_second_time_nothing_is_measured_or_written(self, tmp_path):
        calibrate(tmp_path)
        before = small_runs.files(tmp_path / "evaluations" / SLUG / "calibration")
        of = small_runs.loaded(n=40)
        with small_runs.forwards(of.subject.model) as seen:
            calibrating.load_subject = lambda config: of
            _, said = calibrate(tmp_path)
        assert sum(seen) == 0
        assert "samples forwarded" not in said
        assert small_runs.files(tmp_path / "evaluations" / SLUG / "calibration") == before

    def test_other_thresholds_judge_again_without_measuring(self, tmp_path):
        one, _ = calibrate(tmp_path)
        other, said = calibrate(tmp_path, thresholds={"effect": 50})
        assert "samples forwarded" not in said
        assert other["judged"].truth.estimate == 0
        assert one["judged"].key != other["judged"].key


@pytest.mark.usefixtures("tiny")
class TestBank:
    def jobs(self, metric):
        of, config = small_runs.loaded(n=40), RunConfig(n=40)
        makers = {"": Maker(config, of, BUDGETS["quick"]), LINEAR: Maker(config, linear(of), BUDGETS["quick"])}
        return jobs(metric, makers, ["vanilla_gradients"])

    def test_draws(self):
        counts = {key: len(made) for key, made in self.jobs("judged").items()}
        assert counts == {
            "noise": 12, "noise_4": 12, "heavy_noise": 2, "keyed_noise": 2, "ones_but_a_corner": 1, "constant": 1, "edges": 1,
            "planted_truth": 1, "vanilla_gradients": 1,
        }  # fmt: skip

    def test_fewer_where_no_rule_compares_with_noise(self):
        counts = {key: len(made) for key, made in self.jobs("model_weight_randomization").items()}
        assert (counts["noise"], counts["heavy_noise"], counts[LINEAR]) == (2, 1, 1)

    def test_all_scores_have_keys_of_their_own(self):
        made = [job for metric in METRICS for key, found in self.jobs(metric).items() for job in found]
        assert len({tuple(sorted(job.parts.items())) for job in made}) == len(made)


def test_the_linear_model_is_linear_and_explains_its_own_prediction():
    of = linear(small_runs.loaded(n=6))
    subject = of.subject
    zero = torch.zeros_like(subject.inputs[:1])
    one, other = subject.inputs[:1], subject.inputs[1:2]
    whole, parts = (logits(subject.model, x) for x in (one + other, one))
    torch.testing.assert_close(whole, parts + logits(subject.model, other) - logits(subject.model, zero))
    assert subject.targets.tolist() == logits(subject.model, subject.inputs).argmax(1).tolist()
    assert torch.equal(logits(linear(small_runs.loaded(n=6)).subject.model, one), logits(subject.model, one))


@pytest.mark.usefixtures("tiny", "as_users_run")
class TestMessages:
    @pytest.mark.parametrize(
        ("size", "said"),
        [
            (Size(41, 4, 20), "a bank of 41 images, of data with 40; expected no more than there are; lower --images"),
            (
                Size(30, 4, 31),
                "31 images a repetition, out of a bank of 30; expected no more than it holds; lower --size",
            ),
        ],
    )
    def test_sizes_that_do_not_fit(self, tmp_path, size, said):
        with pytest.raises(CardgenError) as caught:
            calibrate(tmp_path, size)
        assert str(caught.value) == said

    def test_metrics_that_claim_nothing(self, tmp_path):
        with pytest.raises(CardgenError) as caught:
            calibrate(tmp_path, metrics=("told",))
        assert str(caught.value) == (
            "none of the metrics told gives a verdict here; expected one that does; see `cardgen list metrics`"
        )


@pytest.mark.usefixtures("tiny")
class TestLeftOut:
    def test_what_the_data_does_not_have(self, tmp_path, monkeypatch):
        masked = made_metric("masked", in_mask, rule="vs_noise", needs=("masks",))
        only(monkeypatch, METHODS, [made_metric("judged", rule="vs_noise"), masked])
        monkeypatch.setattr(calibrating, "load_subject", lambda config: small_runs.loaded(n=40, masks=False))
        found, said = calibrate(tmp_path)
        assert set(found) == {"judged"}
        assert found["judged"].truth is None
        assert "left out: masked: the data has no ground-truth masks" in said

    def test_changes_without_a_margin(self, tmp_path, monkeypatch):
        unchanged = made_metric("still", rule="unchanged", direction="lower")
        only(monkeypatch, [*METHODS, "input_magnitude"], [made_metric("judged", rule="vs_noise"), unchanged])
        found, said = calibrate(tmp_path)
        assert set(found) == {"judged"}
        assert "left out: still: described while no margin is set" in said
        found, _ = calibrate(tmp_path, thresholds={"margin": 0.5})
        assert set(found) == {"judged", "still"}

    def test_a_map_that_fails_costs_its_metric_only(self, tmp_path, monkeypatch):
        def stumbles(study):
            if study.method.entry.key == "heavy_noise":
                raise ValueError("too heavy")
            return in_mask(study)

        only(
            monkeypatch,
            METHODS,
            [made_metric("judged", in_mask, rule="vs_noise"), made_metric("other", stumbles, rule="vs_noise")],
        )
        config = RunConfig(methods=("vanilla_gradients",), out=tmp_path)
        console = Console(file=io.StringIO(), width=400)
        assert calibrate_session(config, Size(40, 4, 20), console) == 1
        said = console.file.getvalue()
        assert "failed: other: heavy_noise: ValueError in stumbles: too heavy" in said
        folder = tmp_path / "evaluations" / SLUG / "calibration"
        assert [path.stem for path in folder.glob("*.json")] == ["judged"]


@pytest.mark.usefixtures("tiny")
class TestSizes:
    def test_fewer_repetitions_or_images_replace_no_more(self, tmp_path):
        one, _ = calibrate(tmp_path)
        other, _ = calibrate(tmp_path, Size(40, 2, 20))
        assert other == one
        other, _ = calibrate(tmp_path, Size(30, 4, 20))
        assert other == one
        other, _ = calibrate(
            tmp_path, Size(30, 4, 15)
        )  # as where another metric, of smaller samples, requires this one
        assert other == one
        more, _ = calibrate(tmp_path, Size(40, 5, 20))
        assert more["judged"].repetitions == 5

    def test_records_do_not_depend_on_the_selection(self, tmp_path):
        one, _ = calibrate(tmp_path)
        calibrate(tmp_path, metrics=("judged",))
        again, _ = calibrate(tmp_path)
        assert again == one


def test_the_table_needs_no_measuring(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.main, ["calibrate", "--show"])
    assert (result.exit_code, result.output) == (0, "")
