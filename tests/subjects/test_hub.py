"""Data sets that the `datasets` package reads, from local copies; and what is said where there is none."""

import importlib
import io

import numpy as np
import pytest
from PIL import Image

from cardgen.errors import CardgenError
from cardgen.subjects import hub
from cardgen.subjects.data import load_data
from cardgen.subjects.encoded import Encoded
from cardgen.subjects.images import Unreadable
from cardgen.subjects.preprocess import Preprocess

datasets = pytest.importorskip("datasets")
PLAIN = Preprocess(crop=(4, 6), resize=None, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
NAMES = ["owl", "cat", "dog"]


@pytest.fixture(autouse=True)
def _quiet(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def load(spec, n=10, *, outputs=3, classes=("cat", "dog", "owl")):
    return load_data(spec, preprocess=PLAIN, outputs=outputs, classes=classes, class_file=None, n=n, seed=0)


def refusal(spec, **kwargs):
    with pytest.raises(CardgenError) as caught:
        load(spec, **kwargs)
    return str(caught.value)


def picture(i, form="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", (6, 4), (i, 2 * i, 255 - i)).save(stream, form)
    return {"bytes": stream.getvalue(), "path": None}


def made(columns, kinds):
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def pets(n=12, names=NAMES, **more):
    columns = {"image": [picture(i) for i in range(n)], "label": [i % 3 for i in range(n)]}
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    return made(columns | {k: v[0] for k, v in more.items()}, kinds | {k: v[1] for k, v in more.items()})


def parquet(folder, **splits):
    folder.mkdir(exist_ok=True)
    for split, data in splits.items():
        data.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return f"hf:{folder}"


def test_parquet_files(tmp_path):
    found = load(parquet(tmp_path / "My Pets", train=pets()), 12)
    assert sorted(found.ids) == [f"train/{i:06d}" for i in range(12)]
    for image, label, name in zip(found.images, found.labels, found.ids, strict=True):
        i = int(name[-6:])
        assert (image == np.array([i, 2 * i, 255 - i], dtype=np.uint8)[:, None, None]).all()
        assert label == {"owl": 2, "cat": 0, "dog": 1}[NAMES[i % 3]]
    assert (found.name, found.masks) == ("my-pets", None)
    assert found.notes == ("the data's classes were matched to the model's by name",)


def test_the_order_of_classes_is_the_data_set_s(tmp_path):
    found = load(parquet(tmp_path / "pets", train=pets()), 12, classes=())
    assert found.classes == ("owl", "cat", "dog")
    assert all(label == int(name[-6:]) % 3 for label, name in zip(found.labels, found.ids, strict=True))


def test_a_folder_of_pictures(tmp_path):
    for i, name in enumerate(["cat", "cat", "dog", "owl"]):
        (tmp_path / "p" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name / f"{i}.png").write_bytes(picture(i)["bytes"])
    found = load(f"hf:{tmp_path / 'p'}", 4)
    assert sorted(found.labels) == [0, 0, 1, 2]


@pytest.mark.parametrize("several", [False, True])
def test_data_sets_saved_to_disk(tmp_path, several):
    data = datasets.DatasetDict(test=pets(), train=pets(3)) if several else pets()
    data.save_to_disk(tmp_path / "saved")
    found = load(f"hf:{tmp_path / 'saved'}", 12)
    assert len(found.ids) == 12
    assert found.ids[0].startswith("test/" if several else "train/")


def test_splits(tmp_path):
    spec = parquet(tmp_path / "pets", train=pets(4), test=pets(5), validation=pets(6))
    found = load(spec)
    assert (len(found.ids), found.ids[0][:11]) == (6, "validation/")
    assert found.notes[0] == f"of {spec} the split validation was taken"
    assert len(load(f"{spec}:test").ids) == 5
    assert len(load(f"{spec}:default:train").ids) == 4
    assert refusal(f"{spec}:tset") == f"data {spec}:tset: no split is called 'tset'; did you mean test?"


@pytest.mark.parametrize("spec", ["hf:", "hf::test", "hf:a:", "hf:a:b:c:d"])
def test_no_names(spec):
    assert refusal(spec) == f"data {spec}: expected hf:NAME, hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT; mend the name"


def test_the_start_of_a_long_stream(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "ROWS", 9)
    spec = parquet(tmp_path / "pets", train=pets())
    found = load(spec, 4)
    assert found.notes[0] == "samples were drawn from the first 9 rows of the stream"
    assert hub.list_hub(spec, 4, 3).ids == tuple(f"train/{i:06d}" for i in range(9))
    assert len(load(spec, 9).ids) == 9
    assert load(spec, 12).notes[0] == "the data's classes were matched to the model's by name"


def test_masks(tmp_path):
    stream = io.BytesIO()
    half = np.zeros((4, 6), dtype=np.uint8)
    half[:2] = 1
    Image.fromarray(half).save(stream, "PNG")
    masks = [{"bytes": stream.getvalue(), "path": None} if i % 2 else None for i in range(12)]
    data = pets(mask=(masks, datasets.Image())).rename_column("image", "photo")
    found = load(parquet(tmp_path / "p", train=data), 12)
    for name, mask in zip(found.ids, found.masks, strict=True):
        assert np.array_equal(mask, half > 0 if int(name[-6:]) % 2 else half > 1)
    assert found.notes[-1] == "samples with a mask: 6 of 12"


def test_rows_without_a_label_are_left_out(tmp_path):
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    images = [picture(i) for i in range(6)]
    some = load(parquet(tmp_path / "some", train=made({"image": images, "label": [0, -1, 2, None, 1, 0]}, kinds)), 4)
    assert sorted(some.ids) == [f"train/{i:06d}" for i in (0, 2, 4, 5)]
    assert some.notes[0] == "rows left out, as they have no label: 2"
    none = load(parquet(tmp_path / "none", train=made({"image": images, "label": [-1] * 6}, kinds)), 6)
    assert (none.labels, len(none.ids)) == (None, 6)


def test_labels_that_are_numbers_names_or_missing(tmp_path):
    images = [picture(i) for i in range(4)]
    numbers = made({"img": images, "label": [2, 0, 2, 1]}, {"img": datasets.Image(), "label": datasets.Value("int64")})
    assert sorted(load(parquet(tmp_path / "a", train=numbers), 4).labels) == [0, 1, 2, 2]
    names = made(
        {"image": images, "label": ["owl", "cat", "cat", "dog"]},
        {"image": datasets.Image(), "label": datasets.Value("string")},
    )
    assert sorted(load(parquet(tmp_path / "b", train=names), 4).labels) == [0, 0, 1, 2]
    assert load(parquet(tmp_path / "c", train=made({"image": images}, {"image": datasets.Image()})), 4).labels is None


def test_of_several_labels_the_one_that_fits_the_model(tmp_path):
    more = ([0] * 12, datasets.ClassLabel(names=["bird", "mammal"]))
    data = pets(coarse=more).rename_column("label", "fine")
    assert set(load(parquet(tmp_path / "p", train=data), 12).labels) == {0, 1, 2}
    assert refusal(f"hf:{tmp_path / 'p'}", outputs=4) == (
        f"data hf:{tmp_path / 'p'}: 0 columns of labels with the model's 4 classes among image, fine, coarse; expected one, or one called "
        f"label; rename columns, or save the pictures in a folder"
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a", "b"]}, "0 columns of pictures among text; expected one, or one called image"),
        ({"left": [picture(1)] * 2, "right": [picture(2)] * 2}, "2 columns of pictures among left, right; expected one, or one called "
         "image"),
        ({"image": [picture(1)] * 2, "label": [[1, 2], [3]]}, "column label holds list; expected one class a row, a name or a number"),
    ],
)  # fmt: skip
def test_columns_that_do_not_fit(tmp_path, columns, message):
    kinds = {
        name: datasets.Image() if isinstance(values[0], dict)
        else datasets.Value("string") if isinstance(values[0], str)
        else datasets.List(datasets.Value("int64")) if hasattr(datasets, "List") else datasets.Sequence(datasets.Value("int64"))
        for name, values in columns.items()
    }  # fmt: skip
    spec = parquet(tmp_path / "p", train=made(columns, kinds))
    assert refusal(spec).startswith(f"data {spec}: {message}; ")


def test_broken_pictures_are_replaced_and_counted(tmp_path):
    images = [picture(i) for i in range(12)]
    images[5] = {"bytes": images[5]["bytes"][:-30], "path": None}
    images[7] = {"bytes": b"", "path": None}
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    found = load(parquet(tmp_path / "p", train=made({"image": images, "label": [i % 3 for i in range(12)]}, kinds)), 12)
    assert len(found.ids) == 10
    note = found.notes[-1]
    assert note.startswith("2 of 12 pictures could not be read: ")
    assert "train/000005 (truncated)" in note
    assert "train/000007 (empty file)" in note


def test_what_cannot_be_loaded_says_what_to_do(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("Couldn't reach 'birds' on the Hub (LocalEntryNotFoundError)\nmore")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    assert refusal("hf:birds") == (
        "data hf:birds could not be loaded: Couldn't reach 'birds' on the Hub (LocalEntryNotFoundError); expected a data set of the "
        "Hugging Face hub or a local copy; without a network give a folder of pictures (--data FOLDER) or a downloaded data set (hf:FOLDER)"
    )


def test_a_stream_that_breaks_off(tmp_path, monkeypatch):
    def rows(*_):
        yield {"image": picture(0), "label": 0}
        raise OSError("connection reset")

    class Stream:
        features = pets(1).features
        cast_column = lambda self, *_: self  # noqa: E731
        __iter__ = rows

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"train": Stream()})
    assert refusal("hf:birds").startswith("data hf:birds could not be loaded: connection reset; expected")


def test_without_the_extra(monkeypatch):
    found = importlib.import_module

    def missing(name, *args):
        if name == "datasets":
            raise ModuleNotFoundError("No module named 'datasets'", name="datasets")
        return found(name, *args)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert refusal("hf:birds") == (
        "datasets is not installed; data sets called hf:… need it; run: pip install 'cardgen[hf]'"
    )


def test_pictures_are_kept_in_a_file_that_is_closed(monkeypatch):
    kept = Encoded()
    places = [kept.add({"bytes": bytes([i]) * (i + 1), "path": "a.png"}) for i in range(3)]
    assert [kept.get(place) for place in reversed(places)] == [b"\2\2\2", b"\1\1", b"\0"]
    assert str(kept.get(kept.add({"bytes": None, "path": "/x/a.png"}))) == "/x/a.png"
    assert kept.get(kept.add({})) == b""
    file = kept._file
    del kept
    assert file.closed


def test_addresses_are_fetched_when_they_are_drawn(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://cardgen/a.png", "wb") as stream:
        stream.write(b"pixels")
    kept = Encoded()
    assert kept.get(kept.add({"bytes": None, "path": "memory://cardgen/a.png"})) == b"pixels"
    with pytest.raises(Unreadable, match=r"^not fetched \(.*b\.png\)$"):
        kept.get(kept.add({"bytes": None, "path": "memory://cardgen/b.png"}))
