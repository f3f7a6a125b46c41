"""The user's own data, from a folder or a CSV file to arrays: what is drawn, read, replaced, refused and said."""

import re
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hostile_images import write_hostile
from PIL import Image

from cardgen.errors import CardgenError
from cardgen.subjects import data as module
from cardgen.subjects.data import load_data
from cardgen.subjects.preprocess import Preprocess

PLAIN = Preprocess(crop=(4, 6), resize=None, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
CLASSES = ("cat", "dog", "owl")


def load(spec, n=10, *, preprocess=PLAIN, outputs=3, classes=CLASSES, class_file=None, seed=0):
    return load_data(
        str(spec), preprocess=preprocess, outputs=outputs, classes=classes, class_file=class_file, n=n, seed=seed
    )


def refusal(*args, **kwargs):
    with pytest.raises(CardgenError) as caught:
        load(*args, **kwargs)
    return str(caught.value)


def colour_of(name):
    """Each file is of one colour, from its name's digits."""
    digits = int("".join(re.findall(r"\d", name)) or 0)
    return digits % 256, digits // 256, len(name)


def painted(folder, *names, size=(6, 4)):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour_of(name)).save(folder / name)
    return folder


@pytest.fixture
def pets(tmp_path):
    """60 owls, 30 dogs, 10 cats."""
    counts = {"owl": 60, "dog": 30, "cat": 10}
    return painted(tmp_path / "pets", *(f"{name}/{i:03d}.png" for name, count in counts.items() for i in range(count)))


def test_images_labels_and_ids_belong_together(pets):
    found = load(pets, 100)
    assert (found.images.shape, found.images.dtype) == ((100, 3, 4, 6), np.uint8)
    assert len(set(found.ids)) == 100
    for image, label, name in zip(found.images, found.labels, found.ids, strict=True):
        assert (image == np.array(colour_of(name), dtype=np.uint8)[:, None, None]).all()
        assert CLASSES[label] == name.partition("/")[0]
    assert (found.name, found.classes, found.masks) == ("pets", CLASSES, None)
    assert found.notes == ("the data's classes were matched to the model's by name",)


def test_fewer_are_a_proportional_prefix_of_more(pets):
    few, many = load(pets, 20), load(pets, 50)
    assert few.ids == many.ids[:20]
    assert np.array_equal(few.images, many.images[:20])
    assert np.abs(np.bincount(many.labels) - [5, 15, 30]).max() <= 1
    assert load(pets, 50, seed=1).ids != many.ids


def test_only_samples_drawn_are_opened(pets, monkeypatch):
    opened = []
    read = module.read_image
    monkeypatch.setattr(module, "read_image", lambda source: (opened.append(source), read(source))[1])
    found = load(pets, 7)
    assert opened == [pets / name for name in found.ids]


def test_the_preprocessing_is_the_model_s(tmp_path):
    y, x = np.mgrid[:40, :60]
    Image.fromarray(np.stack([4 * x, 6 * y, x + y], -1).astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray((x * 4).astype(np.uint8)).save(tmp_path / "b.png")
    for preprocess in (
        Preprocess((8, 8), (10,), (0.5,), (0.5,)),
        Preprocess((8, 9), (12, 11), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), "bicubic"),
    ):
        found = load(tmp_path, preprocess=preprocess)
        assert found.images.shape == (2, preprocess.channels, *preprocess.crop)
        for name, image in zip(found.ids, found.images, strict=True):
            assert np.array_equal(image, preprocess.image(Image.open(tmp_path / name)))


def test_flat_folders_have_no_labels(tmp_path):
    found = load(painted(tmp_path, "1.png", "2.png", "3.png"))
    assert found.labels is None
    assert set(found.ids) == {"1.png", "2.png", "3.png"}
    assert found.notes == ("10 samples were asked for; there are 3, and all were taken",)
    assert found.classes == CLASSES


def test_a_csv_file(tmp_path):
    painted(tmp_path / "p", "1.png", "2.png", "3.png")
    (tmp_path / "birds.csv").write_text("path,label,site\np/1.png,owl,x\np/3.png,cat,y\np/2.png,owl,x\n")
    found = load(tmp_path / "birds.csv", 3)
    assert dict(zip(found.ids, found.labels, strict=True)) == {"p/1.png": 2, "p/3.png": 0, "p/2.png": 2}
    assert found.name == "birds"


def test_classes_by_file(pets, tmp_path):
    (tmp_path / "c.csv").write_text("cat,7\ndog,7\nowl,1\n")
    found = load(pets, 40, outputs=8, classes=(), class_file=tmp_path / "c.csv")
    assert np.abs(np.bincount(found.labels, minlength=8) - np.array([0, 24, 0, 0, 0, 0, 0, 16])).max() <= 1
    assert found.classes == ("class 0", "owl", "class 2", "class 3", "class 4", "class 5", "class 6", "cat")
    assert found.notes == ("the data's classes were matched to outputs by c.csv",)


def test_classes_that_fit_nothing_are_refused_before_any_picture_is_read(pets, monkeypatch):
    monkeypatch.setattr(module, "read_image", None)
    assert refusal(pets, classes=("cat", "dog", "yak")).startswith(
        "1 of the data's 3 classes fit no output of the model: 'owl'"
    )


def test_masks_follow_their_pictures_geometry(tmp_path):
    """A 12 × 8 picture is halved; the object fills its right half."""
    halved = Preprocess((4, 6), (4, 6), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    painted(tmp_path, "cat/1.png", "dog/2.png", "owl/3.png", "owl/4.png", "owl/5.png", size=(12, 8))
    right = np.zeros((8, 12), dtype=np.uint8)
    right[:, 6:] = 1
    (tmp_path / "masks" / "dog").mkdir(parents=True)
    Image.fromarray(right).save(tmp_path / "masks" / "dog" / "2.png")
    found = load(tmp_path, 5, preprocess=halved)
    assert found.ids.index("dog/2.png") != 1  # its place among the files
    expected = np.zeros((4, 6), dtype=bool)
    expected[:, 3:] = True
    for name, mask in zip(found.ids, found.masks, strict=True):
        assert np.array_equal(mask, expected if name == "dog/2.png" else np.zeros((4, 6), dtype=bool))
    assert found.notes[1:] == ("samples with a mask: 1 of 5",)


def test_masks_that_say_nothing_are_said(tmp_path):
    painted(tmp_path, "1.png", "2.png", "3.png")
    painted(tmp_path / "masks", "1.png", "2.png")  # of one colour: all is object
    Image.new("L", (6, 4)).save(tmp_path / "masks" / "3.png")
    assert load(tmp_path, 3).notes == (
        "masks that are empty where the model looks: 1",
        "masks that cover all that the model sees: 2",
    )


def test_no_masks_among_those_drawn(tmp_path):
    painted(tmp_path, *(f"{i}.png" for i in range(20)))
    last = load(tmp_path, 20).ids[-1]
    painted(tmp_path / "masks", last)
    assert load(tmp_path, 19).masks is None
    assert load(tmp_path, 20).masks.sum() == 24


def test_a_mask_of_another_size_makes_the_sample_unreadable(tmp_path):
    painted(tmp_path, "1.png", "2.png", "3.png")
    painted(tmp_path / "masks", "2.png", size=(5, 4))
    found = load(tmp_path, 3)
    assert set(found.ids) == {"1.png", "3.png"}
    assert found.notes == ("1 of 3 pictures could not be read: 2.png (mask of 5 × 4 pixels, picture of 6 × 4)",)


def test_unreadable_ones_are_replaced_by_the_next_and_counted(pets):
    whole = load(pets, 100).ids
    for name in (whole[3], whole[12]):
        (pets / name).write_bytes(b"")
    found = load(pets, 20)
    assert found.ids == tuple(name for name in whole[:22] if name not in (whole[3], whole[12]))
    assert found.notes[-1] == (f"2 of 22 pictures could not be read: {whole[3]} (empty file), {whole[12]} (empty file)")
    assert (found.images == np.array([colour_of(name) for name in found.ids])[..., None, None]).all()


def test_fewer_remain_where_none_is_left_to_take_their_place(tmp_path):
    painted(tmp_path, *(f"{i}.png" for i in range(10)))
    (tmp_path / "4.png").write_text("no picture")
    found = load(tmp_path, 10)
    assert (len(found.ids), found.images.shape[0]) == (9, 9)
    assert found.notes == ("1 of 10 pictures could not be read: 4.png (not a picture of a known format)",)


@pytest.mark.parametrize(("broken", "stops"), [(3, False), (4, True)])
def test_more_than_three_and_a_tenth_stop_the_run(tmp_path, broken, stops):
    painted(tmp_path, *(f"{i:02d}.png" for i in range(20)))
    for i in range(broken):
        (tmp_path / f"{i:02d}.png").write_bytes(b"")
    if not stops:
        assert len(load(tmp_path, 20).ids) == 17
        return
    message = refusal(tmp_path, 20)
    assert re.fullmatch(
        r"4 pictures could not be read: (\d\d\.png \(empty file\)(, )?){4}; expected at most 3 of 20; mend or remove them",
        message,
    )


@pytest.mark.parametrize(("broken", "stops"), [(6, False), (7, True)])
def test_a_tenth_of_many_may_fail(tmp_path, broken, stops):
    """Of 60: 6 are a tenth."""
    painted(tmp_path, *(f"{i:02d}.png" for i in range(60)))
    for i in range(broken):
        (tmp_path / f"{i:02d}.png").write_bytes(b"")
    if stops:
        assert refusal(tmp_path, 60).endswith("and 2 more; expected at most 6 of 60; mend or remove them")
    else:
        assert len(load(tmp_path, 60).ids) == 54


def test_a_run_that_will_stop_stops_early(tmp_path, monkeypatch):
    for i in range(300):
        (tmp_path / f"{i}.png").write_bytes(b"")
    tried = []
    read = module.read_image
    monkeypatch.setattr(module, "read_image", lambda source: (tried.append(source), read(source))[1])
    assert "; expected at most" in refusal(tmp_path, 64)
    assert len(tried) == 8  # 7 of 71 are a tenth, 8 of 72 are more


def test_fewer_than_two(tmp_path):
    painted(tmp_path, "1.png")
    expected = "expected at least 2; add or mend pictures"
    assert refusal(tmp_path) == f"only 1 of the pictures could be read; {expected}"
    (tmp_path / "2.png").write_bytes(b"")
    assert refusal(tmp_path) == f"only 1 of the pictures could be read, not 2.png (empty file); {expected}"


def test_a_picture_too_long_for_the_preprocessing_is_unreadable(tmp_path):
    painted(tmp_path, "1.png", "2.png")
    Image.new("L", (60_000, 1)).save(tmp_path / "3.png")
    found = load(tmp_path, 3, preprocess=Preprocess((64, 64), (64,), (0.5,), (0.5,)))
    assert found.notes[-1] == (
        "1 of 3 pictures could not be read: 3.png (a picture of 1 × 60000 pixels would become 64 × 3840000)"
    )


def test_hostile_files_beside_good_ones(tmp_path):
    """All that can be read is; the others are many here, so the run stops, naming a few."""
    expected = write_hostile(tmp_path / "odd")
    message = refusal(tmp_path / "odd", 100)
    assert re.match(r"7 pictures could not be read: .* and 2 more; expected at most 6 of 68; ", message, re.DOTALL)
    for name, outcome in expected.items():
        if isinstance(outcome, str) and not (tmp_path / "odd" / name).is_dir():
            (tmp_path / "odd" / name).unlink()
    found = load(tmp_path / "odd", 100)
    assert len(found.ids) == sum(not isinstance(outcome, str) for outcome in expected.values())
    assert all(name.isprintable() for name in found.ids)


def test_large_data_lies_in_a_file(pets, tmp_path, monkeypatch):
    small = load(pets, 30)
    monkeypatch.setattr(module, "IN_MEMORY", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    large = load(pets, 30)
    assert isinstance(large.images, np.memmap)
    assert np.array_equal(large.images, small.images)
    assert set(tmp_path.iterdir()) == before


def test_memory_holds_little_more_than_the_arrays(tmp_path):
    painted(tmp_path, *(f"{i}.png" for i in range(60)), size=(300, 200))
    preprocess = Preprocess((100, 100), (100,), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    load(tmp_path, 2, preprocess=preprocess)
    tracemalloc.start()
    found = load(tmp_path, 60, preprocess=preprocess)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < found.images.nbytes + 1_000_000


def test_a_disk_that_is_too_small(pets, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "IN_MEMORY", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    assert refusal(pets, 30) == (
        f"30 samples need 0.0 GB in {tmp_path}, which has less; ask for fewer (--n), or set TMPDIR to a larger disk"
    )


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("nowhere", "no such folder or file"),
        ("nowhere.csv", "no such folder or file"),
        ("a.zip", "a file, but no CSV"),
        ("a.png", "a file, but no CSV"),
    ],
)
def test_no_such_data(tmp_path, spec, found):
    for name in ("a.zip", "a.png"):
        (tmp_path / name).touch()
    assert refusal(tmp_path / spec) == (
        f"data {tmp_path / spec}: {found}; expected a folder of pictures, a CSV file with a column path, or hf:NAME; mend the path, and "
        f"unpack archives first"
    )


def test_the_home_folder(pets, monkeypatch):
    monkeypatch.setenv("HOME", str(pets.parent))
    assert load("~/pets", 5).ids == load(pets, 5).ids


def test_real_photographs(tmp_path):
    """Some of scikit-image's: grey, colour, with an alpha channel, of any size."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    for name in ("chelsea.png", "coins.png", "moon.png", "coffee.png"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    preprocess = Preprocess((224, 224), (256,), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found = load(tmp_path, 4, preprocess=preprocess, outputs=1000, classes=())
    assert found.images.shape == (4, 3, 224, 224)
    by_name = dict(zip(found.ids, found.images.astype(int), strict=True))
    assert (by_name["coins.png"][0] == by_name["coins.png"][2]).all()
    assert (by_name["chelsea.png"][0] - by_name["chelsea.png"][2]).mean() > 30  # a ginger cat
