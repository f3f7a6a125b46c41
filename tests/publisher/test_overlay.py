"""A run laid over the base: what is news, what is not, what goes, and the digest of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from publishing_fixtures import (
    METHODS,
    PICTURE,
    calibration,
    record,
    write_calibration,
    write_method,
    write_record,
    write_subject,
)
from repository_life import SUBJECT, measured, read_once

from cardgen.errors import CardgenError
from cardgen.publisher import overlay as overlays
from cardgen.publisher.lay import say
from cardgen.publisher.overlay import Overlay, hold, methods_in, of_method, overlay
from cardgen.records import Provenance, Share, dumps

DATE = "2026-03-02"
DELETION, INSERTION = (f"evaluations/{SUBJECT}/grad_cam/{name}.json" for name in ("deletion", "insertion"))
CARD, HISTORY = "cards/grad_cam/README.md", f"evaluations/{SUBJECT}/grad_cam/history.jsonl"
FAILS = {"verdict": "fail", "p": 0.9, "reason": "Does not beat noise."}


@pytest.fixture(autouse=True)
def _read_once(monkeypatch):
    read_once(monkeypatch)


def run(folder: Path, *records, methods=("grad_cam",)):
    """What a run measured."""
    write_subject(folder, SUBJECT)
    for method in methods:
        write_method(folder, method, SUBJECT)
    for found in records or (measured("deletion"), measured("insertion")):
        write_record(folder, found, control=found.method == "noise")
    return overlays.measured(folder)


def merged(base, over):
    """The base after the pull request was merged."""
    after = {**base, **{path: data for path, data in over.files.items() if data is not None}}
    return {path: data for path, data in after.items() if over.files.get(path, data) is not None}


@pytest.fixture
def new(tmp_path):
    return run(tmp_path / "run")


@pytest.fixture
def base(new):
    return merged({}, overlay({}, new, DATE))


def test_first_cards_hold_records_cards_and_pictures(new):
    found = overlay({}, new, DATE)
    assert set(found.files) == {
        "cards/README.md", CARD, "cards/grad_cam/example.png", f"evaluations/{SUBJECT}/subject.json", DELETION, INSERTION,
        f"evaluations/{SUBJECT}/grad_cam/method.json", f"evaluations/{SUBJECT}/grad_cam/example.png",
    }  # fmt: skip
    assert found.files["cards/grad_cam/example.png"] == PICTURE
    assert [change.why for change in found.changes] == [("added",), ("added",)]
    assert (found.cards, found.removed, found.skipped) == (0, (), ())


def test_the_same_run_over_its_own_cards_changes_nothing(base, new):
    assert overlay(base, new, "2026-04-01") == Overlay(digest=overlay(base, {}, DATE).digest, cards=1)


def test_records_are_brought_into_canonical_form(tmp_path, base):
    folder = tmp_path / "loose"
    run(folder)
    path = folder / SUBJECT / "grad_cam" / "deletion.json"
    path.write_bytes(path.read_bytes().replace(b",\n", b" ,\r\n  "))
    assert overlay(base, overlays.measured(folder), DATE).files == {}


@pytest.mark.parametrize(
    "how",
    [
        {"provenance": Provenance(seconds=9.0, device="another machine")},
        {"estimate": 0.2131, "p": 0.00012, "interval": (0.186, 0.24)},
        {"reason": "Beats every noise control, in other words."},
    ],
)
def test_what_varies_between_runs_is_no_news(tmp_path, base, how):
    assert overlay(base, run(tmp_path / "again", measured("deletion", **how), measured("insertion")), DATE).files == {}


@pytest.mark.parametrize(
    "how",
    [
        FAILS,
        {"key": "f" * 32},
        {"rule": record("deletion").rule.model_copy(update={"thresholds": {"effect": 0.3}})},
        {"catalogue": record("deletion").catalogue.model_copy(update={"title": "Deletion (AUC)"})},
    ],
)
def test_verdict_key_thresholds_and_entry_are_news(tmp_path, base, how):
    found = overlay(base, run(tmp_path / "again", measured("deletion", **how), measured("insertion")), DATE)
    assert DELETION in found.files
    assert INSERTION not in found.files
    assert found.digest != overlay(base, {}, DATE).digest


def test_another_reason_to_skip_is_news():
    before, after = (measured("deletion", verdict="skipped", reason=why) for why in ("no masks", "no classes"))
    assert say(DELETION, dumps(before).encode()) != say(DELETION, dumps(after).encode())


def test_a_flipped_control_with_the_same_key_is_no_news():
    before, after = (measured("deletion", "noise", verdict=verdict) for verdict in ("fail", "pass"))
    where = f"{SUBJECT}/controls/noise/deletion.json"
    assert say(where, dumps(before).encode()) == say(where, dumps(after).encode())


def test_a_run_of_one_metric_takes_no_other_record_away(tmp_path, base):
    found = overlay(base, run(tmp_path / "one", measured("deletion", weights="b")), DATE)
    assert DELETION in found.files
    assert None not in found.files.values()


def test_the_digest_is_the_same_on_every_day_and_machine(tmp_path, base):
    fails = run(tmp_path / "one", measured("deletion", weights="b", **FAILS))
    slow = run(tmp_path / "two", measured("deletion", weights="b", provenance=Provenance(seconds=9.0), **FAILS))
    one, two = overlay(base, fails, DATE), overlay(base, slow, "2026-05-05")
    assert one.files != two.files
    assert one.digest == two.digest
    assert overlay(base, run(tmp_path / "three", measured("deletion", weights="c", **FAILS)), DATE).digest != one.digest


def test_history_is_appended_to_what_is_there(tmp_path, base):
    fails = run(tmp_path / "one", measured("deletion", weights="b", **FAILS), measured("insertion"))
    after = merged(base, overlay(base, fails, DATE))
    back = overlay(after, run(tmp_path / "two"), "2026-04-01")
    assert back.files[HISTORY] == (
        b'{"date":"2026-03-02","metric":"deletion","old":"pass","new":"fail","parts":["weights"]}\n'
        b'{"date":"2026-04-01","metric":"deletion","old":"fail","new":"pass","parts":["weights"]}\n'
    )


def test_a_history_that_a_run_brings_is_not_taken(tmp_path):
    folder = tmp_path / "run"
    run(folder)
    line = '{"date":"2026-03-02","metric":"deletion","old":"pass","new":"fail","parts":["weights"]}\n'
    (folder / SUBJECT / "grad_cam" / "history.jsonl").write_text(line)
    assert HISTORY not in overlay({}, overlays.measured(folder), DATE).files


def test_a_method_whose_measuring_has_not_ended_is_left_out(tmp_path, base):
    folder = tmp_path / "run"
    run(folder)
    write_record(folder, measured("deletion", "rise"))
    assert overlay(base, overlays.measured(folder), DATE).files == {}


def test_a_picture_goes_with_its_method(tmp_path, base):
    other = b"\x89PNG\r\n\x1a\nanother"
    folder = tmp_path / "run"
    write_subject(folder, SUBJECT)
    write_method(folder, "grad_cam", SUBJECT, picture=other)
    write_record(folder, measured("deletion"))
    found = overlay(base, overlays.measured(folder), DATE)
    assert (
        found.files["cards/grad_cam/example.png"] == found.files[f"evaluations/{SUBJECT}/grad_cam/example.png"] == other
    )


def test_a_picture_that_is_not_the_one_named_stops_everything(tmp_path, base):
    folder = tmp_path / "run"
    run(folder)
    (folder / SUBJECT / "grad_cam" / "example.png").write_bytes(b"other")
    with pytest.raises(
        CardgenError, match=r"^evaluations/digits-cnn/grad_cam/example.png: not the picture that method.json"
    ):
        overlay({}, overlays.measured(folder), DATE)


def without(base, method):
    return {path: data for path, data in base.items() if not path.startswith(f"evaluations/{SUBJECT}/{method}/")}


@pytest.fixture
def two(tmp_path):
    """Cards of two methods."""
    records = (measured("deletion"), measured("deletion", "rise"))
    return merged({}, overlay({}, run(tmp_path / "two", *records, methods=("grad_cam", "rise")), DATE))


def test_a_card_without_records_goes_and_so_does_its_picture(two):
    found = overlay(without(two, "rise"), {}, DATE)
    assert {path for path, data in found.files.items() if data is None} == {
        "cards/rise/README.md",
        "cards/rise/example.png",
    }
    assert (found.removed, found.cards) == (("rise",), 2)
    with pytest.raises(CardgenError) as told:
        found.refuse_mass_deletion()
    assert str(told.value) == (
        "1 of 2 cards would be deleted (rise); expected at most 20% of them at once; bring their records back, or give "
        "--allow-mass-delete"
    )


def test_a_fifth_of_the_cards_may_go():
    Overlay(removed=("a",), cards=5).refuse_mass_deletion()
    with pytest.raises(CardgenError, match=r"^2 of 9 cards"):
        Overlay(removed=("a", "b"), cards=9).refuse_mass_deletion()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"keep notes -->\n", b"keep notes -->\nOur notes.\n", 1),
        lambda text: text.replace(b"RISE", b"Our RISE", 1),
    ],
)
def test_words_of_people_keep_a_card_without_records(two, change):
    path = "cards/rise/README.md"
    gone = without(two, "rise") | {path: change(two[path])}
    found = overlay(gone, {}, DATE)
    assert path not in found.files
    assert (found.removed, found.skipped) == ((), ("rise/README.md",))


def test_a_readme_of_people_beside_the_cards_is_none_of_ours(base):
    found = overlay(base | {"cards/about/README.md": b"About these cards.\n"}, {}, DATE)
    assert (found.files, found.removed, found.skipped) == ({}, (), ())


def test_a_card_edited_by_hand_is_skipped_and_its_records_are_not(tmp_path, base):
    edited = base | {CARD: base[CARD].replace(b"Grad-CAM", b"Our Grad-CAM", 1)}
    found = overlay(edited, run(tmp_path / "run", measured("deletion", weights="b", **FAILS)), DATE)
    assert found.skipped == ("grad_cam/README.md",)
    assert CARD not in found.files
    assert DELETION in found.files


def test_one_method_alone(tmp_path):
    records = (measured("deletion"), measured("deletion", "rise"), measured("deletion", "noise"))
    new = run(tmp_path / "run", *records, methods=("grad_cam", "rise"))
    mine = of_method(new, "rise")
    assert set(mine) == {
        f"{SUBJECT}/{path}"
        for path in (
            "subject.json",
            "rise/method.json",
            "rise/example.png",
            "rise/deletion.json",
            "controls/noise/deletion.json",
        )
    }
    files = overlay({}, mine, DATE, only="rise").files
    assert {path for path in files if path.startswith("cards/")} == {
        "cards/README.md", "cards/rise/README.md", "cards/rise/example.png",
    }  # fmt: skip
    assert methods_in(overlay({}, new, DATE).files) == ["grad_cam", "rise"]
    assert "rise" in METHODS


def test_noise_is_held_back_until_another_run_agrees(tmp_path, base):
    def flipped(seconds):
        flip = measured("deletion", provenance=Provenance(seconds=seconds), **FAILS)
        return run(tmp_path / str(seconds), flip, measured("insertion"))

    place = f"{SUBJECT}/grad_cam/deletion.json"
    held, waiting = hold(base, flipped(1.0), {})
    assert (held, list(waiting)) == ({place}, [place.removesuffix(".json")])
    assert hold(base, flipped(1.0), waiting) == ({place}, waiting)
    held, agreed = hold(base, flipped(2.0), waiting)
    assert held == set()
    assert hold(base, flipped(3.0), agreed)[0] == hold(base, flipped(2.0), agreed)[0] == set()
    assert hold(base, run(tmp_path / "back"), agreed) == (set(), {})


def test_new_weights_are_not_noise(tmp_path, base):
    assert hold(base, run(tmp_path / "run", measured("deletion", weights="b", **FAILS)), {}) == (set(), {})


def test_a_calibration_is_published_beside_the_methods_and_belongs_to_none(tmp_path, base):
    def calibrated(folder, **changes):
        write_calibration(tmp_path / folder, calibration("deletion", subject=SUBJECT, **changes))
        return run(tmp_path / folder)

    where = f"evaluations/{SUBJECT}/calibration/deletion.json"
    found = overlay(base, calibrated("new"), DATE)
    assert set(found.files) == {where, CARD, "cards/README.md"}
    assert b"*Calibrated:* in 250 repetitions" in found.files[CARD]
    assert methods_in(found.files) == ["grad_cam"]
    assert where.removeprefix("evaluations/") in of_method(calibrated("new"), "grad_cam")
    after = merged(base, found)
    recounted = {"noise": {"noise": Share(passes=2, of=250)}, "provenance": Provenance(device="another")}
    assert overlay(after, calibrated("again", **recounted), DATE).files == {}
    assert where in overlay(after, calibrated("anew", key="1" * 32, **recounted), DATE).files


def test_a_subject_called_calibration_is_a_subject(tmp_path):
    write_subject(tmp_path, "calibration")
    assert list(overlays.measured(tmp_path)) == ["calibration/subject.json"]
