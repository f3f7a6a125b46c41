"""Where results lie: whole or not at all, and broken scores are no scores."""

import os
from pathlib import Path

import numpy as np
import pytest
import small_runs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cardgen import records
from cardgen.errors import CardgenError
from cardgen.methods import METHODS
from cardgen.records import Curve, MethodRecord
from cardgen.scores import Scores
from cardgen.store import Store

SCORES = Scores(
    np.array([0.25, 1 / 3, 0.0]),
    np.array([True, True, False]),
    np.array([False, False, True]),
    parts={"self": np.array([1.0, 0.5, 0.25]), "similarity": np.arange(6.0).reshape(2, 3)},
    reported={"words": "a – b", "count": 3, "share": 1 / 7, "none": None, "yes": True},
    curve=Curve(x_label="x", y_label="y", y=[1.0, 0.5]),
    timing={"seconds": 0.5},
    passes=12,
    reason="As it is.",
)


def same(a, b):
    arrays = [(a.values, b.values), (a.valid, b.valid), (a.flat, b.flat)]
    arrays += [(a.parts[name], b.parts[name]) for name in a.parts]
    rest = [(x.reported, x.curve, x.timing, x.passes, x.reason, sorted(x.parts)) for x in (a, b)]
    return rest[0] == rest[1] and all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in arrays)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "evaluations", "model-data")


def test_scores_come_back_to_the_last_bit(store):
    store.save_scores("key", SCORES)
    assert same(store.scores("key"), SCORES)


def test_scores_that_are_not_there_are_none(store):
    assert store.scores("key") is None


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_broken_scores_are_none_or_whole_but_never_others(store, data):
    whole = SCORES.dumps()
    path = store.root / ".scores" / "key.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    at = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.booleans())
    path.write_bytes(
        whole[:at] if cut else whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    )
    found = store.scores("key")
    assert found is None or same(found, SCORES)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY", b"{}", b"\0" * 1000])
def test_files_of_another_kind_are_no_scores(store, content):
    path = store.root / ".scores" / "key.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert store.scores("key") is None


def test_methods_and_controls_lie_apart(store):
    for key, folder in (("rise", "rise"), ("noise", "controls/noise")):
        expected = store.evaluations / "model-data" / folder / "deletion.json"
        assert store.path(METHODS[key].entry, "deletion") == expected


def test_a_broken_record_is_named_with_what_to_do(store):
    path = store.path(METHODS["rise"].entry, "deletion")
    path.parent.mkdir(parents=True)
    path.write_text('{"half": ')
    with pytest.raises(CardgenError, match=r"deletion\.json: not a readable Record: .*delete the file and run"):
        store.record(path)


def method(picture):
    import hashlib

    return MethodRecord(
        subject="model-data",
        catalogue=METHODS["rise"].entry,
        key="k",
        picture_sha256=hashlib.sha256(picture).hexdigest(),
    )


def test_a_picture_counts_as_drawn_only_with_its_method_json_and_the_same_bytes(store):
    assert store.drawn("rise") == ""
    store.save_method(method(b"picture"), b"picture")
    assert store.drawn("rise") == "k"
    folder = store.folder("rise", control=False)
    (folder / "example.png").write_bytes(b"other")
    assert store.drawn("rise") == ""
    (folder / "example.png").unlink()
    assert store.drawn("rise") == ""


def test_what_says_the_same_is_not_written_again(store):
    subject = small_runs.loaded(n=2).record
    store.save_subject(subject)
    store.save_method(method(b"picture"), b"picture")
    before = small_runs.files(store.root)
    store.save_subject(subject)
    store.save_method(method(b"picture"), b"picture")
    assert small_runs.files(store.root) == before
    store.save_subject(subject.model_copy(update={"n": 3}))
    changed = small_runs.files(store.root)
    assert [path.name for path in changed if changed[path] != before[path]] == ["subject.json"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CardgenError) as caught:
        Store(tmp_path / "file", "model-data").save_scores("key", SCORES)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'file'}/model-data/.scores/key.npz: cannot be written: ")
    assert message.endswith("mend that, or choose another folder")


def test_a_full_disk_leaves_the_old_file_and_is_said(store, monkeypatch):
    store.save_scores("key", SCORES)

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(CardgenError, match=r"cannot be written: No space left on device; expected"):
        store.save_scores("key", SCORES.with_passes(99))
    monkeypatch.undo()
    assert store.scores("key").passes == 12
    assert [path.name for path in Path(store.root / ".scores").iterdir()] == ["key.npz"]
