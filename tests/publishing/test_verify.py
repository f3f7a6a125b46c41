"""Hand-made changes: each thing that must hold, broken once."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from publishing_fixtures import calibration, record, write_calibration, write_method, write_record, write_subject

from cardgen.build import build
from cardgen.cli import main
from cardgen.digests import SHORT, digest, key_fits
from cardgen.errors import CardgenError
from cardgen.history import HISTORY
from cardgen.records import Provenance, Record, Rule, Share, load
from cardgen.verify import Verified, verify

PARTS = {"weights": "1" * 12, "data": "2" * 12, "n": 200, "target": "predicted", "seed": 0, "dtype": "float32"}
VERSIONS = {"method": 1, "metric": 1, "engine": 1}
WHERE = "digits-cnn/grad_cam"


def keyed(metric: str, method: str = "grad_cam", **changes: Any) -> Record:
    """A record whose key is that of its parts; `of_method` are its method's parameters, the others its metric's."""
    of_method, of_metric = changes.pop("of_method", {"layer": "layer4"}), changes.pop("of_metric", {"steps": 50})
    parts, versions = changes.pop("key_parts", PARTS), changes.pop("versions", VERSIONS)
    key = digest(
        {
            **parts,
            "engine": versions["engine"],
            "method": f"{method} {versions['method']}",
            "metric": f"{metric} {versions['metric']}",
            "method_parameters": digest(of_method)[:SHORT],
            "metric_parameters": digest(of_metric)[:SHORT],
        }
    )
    fields = {"key": key, "key_parts": parts, "versions": versions, "parameters": {**of_method, **of_metric}}
    return record(metric, method, **{"controls": {}, **fields, **changes})


class World:
    """Records and cards, and the base that they were made from."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.base = folder / "evaluations", folder / "base"
        self.cards = folder / "cards"
        write_subject(self.folder)
        for method in ("grad_cam", "rise"):
            write_method(self.folder, method)
        for found in (keyed("deletion"), keyed("insertion", verdict="fail", p=0.9), keyed("deletion", "rise")):
            write_record(self.folder, found)
        write_record(self.folder, keyed("deletion", "noise"), control=True)
        shutil.copytree(self.folder, self.base)
        self.build()

    def build(self) -> None:
        build(self.folder, self.cards)

    def put(self, found: Record, control: bool = False) -> None:
        write_record(self.folder, found, control)
        self.build()

    def problems(self) -> tuple[str, ...]:
        return verify(self.folder, self.cards, self.base).problems


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_holds_has_no_problem(world: World) -> None:
    assert verify(world.folder, world.cards, world.base) == Verified(4, ())
    assert verify(world.folder, world.cards) == Verified(4, ())


def test_a_new_record_and_a_record_with_a_new_key_are_welcome(world: World) -> None:
    world.put(keyed("sparsity"))
    world.put(keyed("deletion", key_parts={**PARTS, "weights": "3" * 12}, verdict="fail", p=0.9, estimate=0.4))
    assert world.problems() == ()


def test_every_malformed_file_is_named(world: World) -> None:
    for name in (f"{WHERE}/deletion.json", "digits-cnn/rise/method.json"):
        (world.folder / name).write_text("{}")
    first, second = world.problems()
    assert first.startswith(
        f"{world.folder}/digits-cnn/rise/method.json: subject: Field required; expected a MethodRecord"
    )
    assert second.startswith(f"{world.folder}/{WHERE}/deletion.json: subject: Field required; expected a Record")


def test_a_record_in_anothers_place_is_named(world: World) -> None:
    (world.folder / WHERE / "deletion.json").rename(world.folder / WHERE / "insertion.json")
    (problem,) = world.problems()
    assert problem == (
        f"{world.folder}/{WHERE}/insertion.json: metric: expected 'insertion' as in the path, got 'deletion'; "
        f"move the file or mend the field"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "0" * 32},
        {"parameters": {"layer": "layer4", "steps": 51}},
        {"parameters": {}},
        {"versions": {**VERSIONS, "metric": 2}},
    ],
)
def test_a_key_that_is_not_of_its_parts(world: World, changes: dict[str, Any]) -> None:
    forged = keyed("sparsity").model_copy(update=changes)
    world.put(forged)
    assert world.problems() == (
        f"{WHERE}/sparsity.json: the key {forged.key} is not that of its parts; expected the digest of key_parts, versions "
        f"and parameters; restore the file from git, or measure it by `cardgen run`",
    )


def test_a_controls_key_is_checked_as_well(world: World) -> None:
    world.put(keyed("deletion", "noise", key="0" * 32), control=True)
    assert "digits-cnn/controls/noise/deletion.json: the key 000" in world.problems()[0]


@pytest.mark.parametrize(
    ("of_method", "of_metric", "fits"),
    [
        ({}, {}, True),
        ({"steps": 50, "baseline": "black"}, {"steps": 50}, True),
        ({"steps": 50}, {"steps": 10}, True),  # with method.json's own parameters
        ({}, {"tolerance": 0.06696428571428571}, None),
        ({}, {"tolerance": 0.5}, True),
    ],
)
def test_keys_with_parameters_of_one_name_or_rounded_ones(
    of_method: dict[str, Any], of_metric: dict[str, Any], fits: bool | None
) -> None:
    found = keyed("deletion", of_method=of_method, of_metric=of_metric)
    stored = Record.model_validate_json(found.model_dump_json())
    assert key_fits(stored, of_method) is fits
    assert key_fits(stored.model_copy(update={"key": "0" * 32}), of_method) is (None if fits is None else False)


def test_the_key_of_a_record_whose_budget_cut_a_size_beside_a_parameter_of_one_name() -> None:
    found = keyed("deletion", of_method={"n_samples": 6, "steps": 25}, of_metric={"steps": 50})
    assert found.parameters == {"n_samples": 6, "steps": 50}
    assert key_fits(found, {"n_samples": 16, "steps": 25}) is True
    assert key_fits(found, {"n_samples": 16, "steps": 20}) is False


def test_the_keys_of_the_committed_records_are_those_of_their_parts() -> None:
    folder = Path(__file__).parents[2] / "evaluations" / "digit-cnn-digits-on-scenes"
    paths = [path for path in sorted(folder.glob("grad_cam/*.json")) if path.name != "method.json"]
    fits = {path.stem: key_fits(load(Record, path), {}) for path in paths}
    assert fits.pop("pointing_game") is None
    assert set(fits.values()) == {True}


def test_a_record_that_vanished(world: World) -> None:
    (world.folder / WHERE / "insertion.json").unlink()
    (world.folder / "digits-cnn/controls/noise/deletion.json").unlink()
    world.build()
    said = "vanished; expected every record of the base; restore it from git"
    assert world.problems() == (f"digits-cnn/controls/noise/deletion.json: {said}", f"{WHERE}/insertion.json: {said}")


def test_a_method_that_vanished(world: World) -> None:
    shutil.rmtree(world.folder / "digits-cnn" / "rise")
    world.build()
    assert [problem.partition(";")[0] for problem in world.problems()] == [
        "digits-cnn/rise/deletion.json: vanished",
        "digits-cnn/rise/method.json: vanished",
        "rise: a card without records",
    ]


@pytest.mark.parametrize(
    ("moved", "named"),
    [
        ({"estimate": 0.2135}, "estimate"),
        ({"verdict": "inconclusive"}, "verdict"),
        ({"p": 0.02, "n": 199}, "p, n"),
        ({"interval": (0.1, 0.2)}, "interval"),
        ({"verdict": "skipped", "reason": "no masks"}, "verdict"),
    ],
)
def test_a_score_that_moved_while_its_key_did_not(world: World, moved: dict[str, Any], named: str) -> None:
    world.put(keyed("deletion", **moved))
    assert world.problems() == (
        f"{WHERE}/deletion.json: {named} moved, the key did not; expected the base's, since nothing that it rests on is "
        f"another; restore the file from git, or raise the version of what changed and measure again",
    )


def test_a_controls_score_may_not_move_either(world: World) -> None:
    world.put(keyed("deletion", "noise", estimate=0.9), control=True)
    assert world.problems()[0].startswith("digits-cnn/controls/noise/deletion.json: estimate moved")


def test_calibrations_may_come_but_neither_go_nor_be_recounted_with_the_same_key(world: World) -> None:
    write_calibration(world.folder, calibration("deletion"))
    world.build()
    assert world.problems() == ()
    place = "digits-cnn/calibration/deletion.json"
    write_calibration(world.base, calibration("deletion", noise={"noise": Share(passes=9, of=250)}))
    assert world.problems() == (
        f"{place}: the counts moved, the key did not; expected the base's; restore the file from git, or calibrate again",
    )
    write_calibration(world.base, calibration("deletion", provenance=Provenance(device="another")))
    assert world.problems() == ()
    write_calibration(world.base, calibration("deletion", key="1" * 32, noise={"noise": Share(passes=9, of=250)}))
    assert world.problems() == ()
    (world.folder / place).unlink()
    world.build()
    assert world.problems() == (f"{place}: vanished; expected every record of the base; restore it from git",)


def test_a_malformed_calibration_is_named(world: World) -> None:
    path = world.folder / "digits-cnn" / "calibration" / "deletion.json"
    write_calibration(world.folder, calibration("deletion"))
    path.write_text(path.read_text().replace("[1,250]", "[251,250]"))
    (problem,) = world.problems()
    assert problem.startswith(
        f"{path}: noise.noise: Value error, expected no more passes than 250, got 251; expected a Calibration"
    )


def test_what_is_worded_or_timed_anew_may_stand(world: World) -> None:
    world.put(keyed("deletion", reason="In other words.", advice="About 400 samples."))
    assert world.problems() == ()


def test_thresholds_decide_anew_but_leave_curves_alone(world: World) -> None:
    rule = Rule(name="vs_noise", thresholds={"effect": 9.0})
    world.put(keyed("deletion", verdict="fail", p=0.4, rule=rule))
    assert world.problems() == ()
    world.put(keyed("deletion", verdict="fail", p=0.4, rule=rule, reported={"runs": 3}))
    assert world.problems()[0].startswith(f"{WHERE}/deletion.json: reported moved, the key did not")


def test_parts_that_moved_without_the_key(world: World) -> None:
    world.put(keyed("deletion").model_copy(update={"parameters": {"layer": "layer3", "steps": 50}}))
    assert (
        f"{WHERE}/deletion.json: parameters moved, the key did not; expected the key of its parts; restore the file from git"
    ) in world.problems()


def remember(world: World, new: str, text: str = "") -> None:
    line = {"date": "2026-03-01", "metric": "deletion", "old": "pass", "new": new, "parts": ["noise"]}
    (world.folder / WHERE / HISTORY).write_text(text + json.dumps(line) + "\n")


def test_a_flip_that_the_history_tells_of_may_stand(world: World) -> None:
    remember(world, "fail")
    world.put(keyed("deletion", verdict="fail", p=0.9))
    assert world.problems() == ()
    shutil.copy(world.folder / WHERE / HISTORY, world.base / WHERE / HISTORY)
    assert "verdict, p moved" in world.problems()[0]  # told of before, so not of this


def test_a_history_of_another_verdict_tells_nothing(world: World) -> None:
    remember(world, "inconclusive")
    world.put(keyed("deletion", verdict="fail", p=0.9))
    assert "verdict, p moved" in world.problems()[0]


def test_history_that_was_rewritten(world: World) -> None:
    remember(world, "fail")
    shutil.copy(world.folder / WHERE / HISTORY, world.base / WHERE / HISTORY)
    remember(world, "inconclusive")
    world.build()
    assert world.problems() == (
        f"{WHERE}/{HISTORY}: lines of the base are gone; expected them all, new ones below; restore it from git",
    )
    remember(world, "inconclusive", (world.base / WHERE / HISTORY).read_text())
    world.build()
    assert world.problems() == ()


def test_cards_that_do_not_follow_from_the_records(world: World) -> None:
    write_record(world.folder, keyed("sparsity"))
    card = world.cards / "rise" / "README.md"
    card.write_text(card.read_text().replace("RISE", "Rise"))
    assert world.problems() == (
        "README.md: not what the records say; run `cardgen build`",
        "grad_cam/README.md: not what the records say; run `cardgen build`",
        "rise/README.md: changed by hand outside kept regions; move the words into one, or run `cardgen build --force`",
    )


def test_a_base_that_was_malformed_may_be_mended(world: World) -> None:
    (world.base / WHERE / "deletion.json").write_text("{")
    assert world.problems() == ()
    (world.base / WHERE / HISTORY).write_text("{\n")
    remember(world, "fail")
    world.put(keyed("insertion", verdict="pass"))
    assert [problem.partition(" ")[0] for problem in world.problems()] == [
        f"{WHERE}/insertion.json:",
        f"{WHERE}/{HISTORY}:",
    ]


def test_no_folder_of_records(tmp_path: Path) -> None:
    with pytest.raises(CardgenError) as caught:
        verify(tmp_path / "none", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/none: no such folder; expected a folder of records; name it with --evaluations"
    )


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world as the work tree of a repository, everything committed."""
    folder = world.folder.parent
    shutil.rmtree(world.base)
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    monkeypatch.chdir(folder)
    return world


@pytest.mark.parametrize("base", ["HEAD", "main", "HEAD^{commit}"])
def test_the_command_takes_a_commit_for_its_base(repository: World, base: str) -> None:
    clean = CliRunner().invoke(main, ["verify", "--base", base])
    assert (clean.exit_code, clean.output) == (0, "4 records checked; no problems.\n")
    repository.put(keyed("deletion", estimate=0.3))
    (repository.folder / WHERE / "insertion.json").unlink()
    repository.build()
    found = CliRunner().invoke(main, ["verify", "--base", base])
    assert found.exit_code == 1
    assert found.output.splitlines()[1:] == [
        f"{WHERE}/insertion.json: vanished; expected every record of the base; restore it from git",
        "3 records checked; 2 problems.",
    ]
    assert CliRunner().invoke(main, ["verify"]).exit_code == 0


@pytest.mark.parametrize("base", ["nowhere", "--upload-pack=x", "0" * 40, ""])
def test_a_base_that_is_not_there(repository: World, base: str) -> None:
    found = CliRunner().invoke(main, ["verify", f"--base={base}"])
    assert found.exit_code == 2
    assert found.stderr == (
        f"error: --base: no commit {base!r} in {repository.folder.parent}; expected a commit, branch or tag that is there; "
        f"fetch it first\n"
    )


def test_a_base_without_records_has_nothing_to_lose(repository: World) -> None:
    git(repository.folder.parent, "checkout", "--orphan", "empty")
    git(repository.folder.parent, "rm", "-r", "--cached", "--quiet", ".")
    git(repository.folder.parent, "commit", "--allow-empty", "-m", "empty")
    found = CliRunner().invoke(main, ["verify", "--base", "empty"])
    assert (found.exit_code, found.output) == (0, "4 records checked; no problems.\n")
