"""Folders: what counts as picture, class and mask, and what is refused."""

import os
import time
from pathlib import Path

import pytest

from cardgen.errors import CardgenError
from cardgen.subjects.folders import list_folder


def made(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def listed(folder, *paths):
    return list_folder(made(folder, *paths))


def refusal(folder, *paths):
    with pytest.raises(CardgenError) as caught:
        listed(folder, *paths)
    return str(caught.value)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "pets"


def test_class_subfolders(root):
    found = listed(root, "dog/b.png", "cat/z.JPG", "cat/deep/er/a.jpeg", "dog/a.tiff")
    assert found.ids == ("cat/deep/er/a.jpeg", "cat/z.JPG", "dog/a.tiff", "dog/b.png")
    assert found.labels == ["cat", "cat", "dog", "dog"]
    assert found.classes == ("cat", "dog")
    assert (found.name, found.mask, found.notes) == ("pets", None, ())
    assert [found.picture(i) for i in range(4)] == [root / name for name in found.ids]


def test_classes_are_sorted_as_image_folder_sorts(root):
    assert listed(root, "b/1.png", "B/1.png", "a b/1.png", "10/1.png", "9/1.png").classes == (
        "10",
        "9",
        "B",
        "a b",
        "b",
    )


def test_a_flat_folder_has_no_labels(root):
    found = listed(root, "b.png", "a.webp", "masks/b.png")
    assert (found.ids, found.labels, found.classes) == (("a.webp", "b.png"), None, ())


def test_what_systems_leave_behind_is_not_there(root):
    litter = [".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.png", "cat/._a.png", "cat/Thumbs.db", "Icon\r"]
    hidden = [".ipynb_checkpoints/a.png", "__MACOSX/cat/a.png", "@eaDir/a.png", "cat/.git/a.png", "$RECYCLE.BIN/b.png"]
    found = listed(root, "cat/a.png", *litter, *hidden)
    assert (found.ids, found.classes, found.notes) == (("cat/a.png",), ("cat",), ())


def test_other_files_are_passed_over_and_said(root):
    found = listed(root, "a.png", "b.png", "labels.csv", "README", "x.csv")
    assert found.ids == ("a.png", "b.png")
    assert found.notes == ("files passed over, as their endings are no pictures': 3 (.csv, none)",)


def test_empty_subfolders_are_no_classes(root):
    (root / "nothing").mkdir(parents=True)
    (root / "cat" / "folder.png").mkdir(parents=True)
    assert listed(root, "cat/a.png", "notes/readme.txt").classes == ("cat",)


def test_pictures_beside_classes(root):
    assert refusal(root, "a.png", "b.png", "c.png", "cat/a.png", "dog/x/a.png") == (
        f"{root}: 3 pictures (a.png, b.png and 1 more) beside subfolders with pictures (cat, dog); expected class subfolders alone, or a "
        f"flat folder without labels; move one of them away, or list the pictures in a CSV file"
    )


def test_splits_are_no_classes(root):
    assert refusal(root, "train/cat/a.png", "val/cat/a.png") == (
        f"{root}: its subfolders (train, val) are parts of data, no classes; expected class subfolders; give one of them: {root / 'val'}"
    )
    assert list_folder(root / "val").name == "pets-val"
    assert refusal(root.parent / "one", "images/a.png").startswith(
        f"{root.parent / 'one'}: its subfolders (images) are parts of data"
    )
    assert listed(root.parent / "two", "train/a.png", "bus/a.png").classes == ("bus", "train")


def test_nothing_to_see(root):
    expected = "expected files ending in .png, .jpg, .tif or the like, in class subfolders or flat; convert other formats first"
    root.mkdir()
    assert refusal(root) == f"{root}: no pictures; {expected}"
    assert refusal(root, "a.dcm", "b.DCM", "c.txt", "masks/a.png") == (
        f"{root}: no pictures but 3 other files (.dcm, .txt); {expected}"
    )


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a.png", "b.jpg", "c.png", "masks/a.gif", "masks/b.png"], {"a.png": "masks/a.gif", "b.jpg": "masks/b.png", "c.png": None}),
        (["cat/a.jpg", "dog/a.jpg", "masks/cat/a.png"], {"cat/a.jpg": "masks/cat/a.png", "dog/a.jpg": None}),
        (["cat/a.jpg", "dog/b.jpg", "masks/a.png", "masks/b.png"], {"cat/a.jpg": "masks/a.png", "dog/b.jpg": "masks/b.png"}),
        (["cat/x/a.jpg", "dog/x/b.jpg", "Masks/x/a.png"], {"cat/x/a.jpg": "Masks/x/a.png", "dog/x/b.jpg": None}),
        (["cat/a.jpg", "dog/a.jpg", "cat/masks/a.png"], {"cat/a.jpg": "cat/masks/a.png", "dog/a.jpg": None}),
        (["a.b.jpg", "a.jpg", "masks/a.b.png"], {"a.b.jpg": "masks/a.b.png", "a.jpg": None}),
    ],
)  # fmt: skip
def test_masks_inside(root, paths, expected):
    found = listed(root, *paths)
    assert {
        name: str(found.mask(i).relative_to(root)) if found.mask(i) else None for i, name in enumerate(found.ids)
    } == (expected)
    assert "masks" not in found.classes


@pytest.mark.parametrize("place", ["masks/pets", "pets_masks", "masks"])
def test_masks_beside(root, place):
    made(root.parent / place, "cat/a.png")
    made(root.parent / "masks", "something/else.txt")
    found = listed(root, "cat/a.jpg", "dog/b.jpg")
    assert found.mask(0) == root.parent / place / "cat/a.png"
    assert found.mask(1) is None


def test_masks_inside_come_before_masks_beside(root):
    made(root.parent / "masks", "a.png", "b.png")
    found = listed(root, "a.jpg", "b.jpg", "masks/a.png")
    assert (found.mask(0), found.mask(1)) == (root / "masks/a.png", None)


def test_masks_that_fit_nothing_are_said(root):
    found = listed(root, "a.jpg", "masks/a_mask.png", "masks/readme.txt")
    assert found.mask is None
    assert found.notes == ("none of the masks (masks/a_mask.png) has the path and stem of a picture",)


def test_masks_that_fit_twice(root):
    assert refusal(root, "cat/a.jpg", "dog/a.jpg", "masks/a.png") == (
        "mask masks/a.png fits cat/a and dog/a; expected one picture a mask; put masks into class subfolders"
    )
    assert refusal(root.parent / "b", "a.jpg", "masks/a.png", "masks/a.gif") == (
        "masks masks/a.gif and masks/a.png fit the same picture; expected one mask a picture; remove one of them"
    )


def test_links_are_followed_and_loops_end(root):
    made(root.parent / "elsewhere", "c.png", "deep/d.png")
    made(root, "cat/a.png")
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "self").symlink_to("self")
    (root / "cat" / "self.png").symlink_to("self.png")
    (root / "cat" / "gone.png").symlink_to("nowhere")
    (root / "cat" / "c.png").symlink_to(root.parent / "elsewhere" / "c.png")
    (root / "owl").symlink_to(root.parent / "elsewhere")
    (root / "yak").symlink_to(root.parent / "elsewhere")
    found = list_folder(root)
    assert found.ids == ("cat/a.png", "cat/c.png", "cat/gone.png", "cat/self.png", "owl/c.png", "owl/deep/d.png")
    assert found.classes == ("cat", "owl")


def test_a_folder_comes_before_links_to_it(root):
    made(root, "cat/a.png", "dog/b.png")
    (root / "cat" / "all").symlink_to(root / "dog")
    assert list_folder(root).ids == ("cat/a.png", "dog/b.png")


def test_a_folder_by_a_link_or_a_relative_path_is_the_same(root, monkeypatch):
    found = listed(root, "cat/a.png")
    (root.parent / "link").symlink_to(root)
    monkeypatch.chdir(root.parent)
    for path in (root.parent / "link", Path("pets"), Path("pets/../pets/.")):
        assert (list_folder(path).ids, list_folder(path).name) == (found.ids, "pets")


def test_odd_names_become_text_that_can_be_printed(root):
    names = ["ünï 名前.png", "  two  spaces.png", "line\nbreak.png", "back\\slash.png", os.fsdecode(b"caf\xe9.png")]
    found = listed(root, *names)
    assert set(found.ids) == {
        "ünï 名前.png", "  two  spaces.png", "line\\nbreak.png", "back\\\\slash.png", "caf\\udce9.png",
    }  # fmt: skip
    assert all(found.picture(i).exists() for i in range(5))
    assert all(name.encode() and name.isprintable() for name in found.ids)


def test_escaping_keeps_names_apart(root):
    assert len(set(listed(root, "a\nb.png", "a\\nb.png", "a\\\\nb.png").ids)) == 3


def test_a_folder_that_cannot_be_read(root, monkeypatch):
    made(root, "cat/a.png", "dog/b.png")
    scan = os.scandir

    def locked(path):
        if str(path).rstrip("/").endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(CardgenError) as caught:
        list_folder(root)
    assert str(caught.value) == (
        f"{root / 'dog'}: Permission denied; expected a folder that can be read; mend its permissions or leave it out"
    )


def test_no_file_is_looked_at(root, monkeypatch):
    """One scan a folder and one stat a folder, however many files."""
    made(root, *(f"{name}/{i}.png" for name in ("cat", "dog") for i in range(50)))
    root, calls, stat = root.resolve(), [], os.stat

    def counted(path, *args, **kwargs):
        calls.append(path)
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", counted)
    assert len(list_folder(root).ids) == 100
    assert len(calls) < 12  # the folder and two classes, and three places where masks may lie


def test_ten_thousand_files_in_a_moment(root):
    made(root, *(f"{i % 10}/{i}.png" for i in range(10_000)))
    start = time.process_time()
    assert len(list_folder(root).ids) == 10_000
    assert time.process_time() - start < 2
