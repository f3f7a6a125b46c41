"""Pictures of every kind come out as people see them, and everything else gives its reason."""

import io
import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hostile_images import CLOSE, COLOUR, RAMP, encoded, grey, smooth, write_hostile
from PIL import Image, ImageFile

from cardgen.subjects import images
from cardgen.subjects.images import Unreadable, read_image, read_mask


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    return folder, write_hostile(folder)


def reason(source, **kwargs):
    with pytest.raises(Unreadable) as caught:
        read_mask(source, **kwargs) if kwargs else read_image(source)
    return str(caught.value)


def test_every_file_gives_its_pixels_or_its_reason(hostile, capfd):
    folder, expected = hostile
    assert len(expected) >= 60
    assert sum(isinstance(outcome, str) for outcome in expected.values()) >= 25
    wrong = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, outcome in expected.items():
            try:
                picture = read_image(folder / name)
            except Unreadable as error:
                found = str(error)
                same = isinstance(outcome, str) and found == outcome
            else:
                found = np.asarray(picture)
                same = picture.mode == "RGB" and not isinstance(outcome, str) and found.shape == outcome.shape
                same = same and np.abs(found.astype(int) - outcome).max() <= CLOSE.get(name, 0)
            if not same:
                wrong[name] = (found, outcome)
    assert not wrong
    assert capfd.readouterr() == ("", "")


def test_bytes_are_read_as_files_are(hostile):
    folder, _ = hostile
    for name in ("rgb.png", "phone.png", "deep.tif", "phone.tif"):
        assert read_image((folder / name).read_bytes()).tobytes() == read_image(folder / name).tobytes()
    assert reason(b"") == "empty file"
    assert reason((folder / "truncated.png").read_bytes()) == "truncated"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_every_orientation(orientation, form):
    """EXIF 2.32, tag 274: where row 0 and column 0 of the stored pixels belong."""
    turned = {
        1: COLOUR,
        2: COLOUR[:, ::-1],
        3: COLOUR[::-1, ::-1],
        4: COLOUR[::-1],
        5: COLOUR.transpose(1, 0, 2),
        6: COLOUR.transpose(1, 0, 2)[:, ::-1],
        7: COLOUR[::-1, ::-1].transpose(1, 0, 2),
        8: COLOUR.transpose(1, 0, 2)[::-1],
    }
    exif = Image.Exif()
    exif[274] = orientation
    assert np.array_equal(read_image(encoded(Image.fromarray(COLOUR), form, exif=exif)), turned[orientation])


def test_odd_orientations_are_passed_over():
    for value in (0, 9, 65535):
        exif = Image.Exif()
        exif[274] = value
        assert np.array_equal(read_image(encoded(Image.fromarray(COLOUR), "PNG", exif=exif)), COLOUR)


def test_an_orientation_that_is_no_number_is_passed_over():
    text = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI4sI", 1, 274, 2, 4, b"up!\0", 0)
    data = encoded(Image.fromarray(COLOUR), "PNG", exif=text)
    assert Image.open(io.BytesIO(data)).getexif()[274] == "up!"
    assert np.array_equal(read_image(data), COLOUR)


def test_half_a_picture_is_none_whatever_a_user_s_module_has_set(hostile, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for name in ("truncated.jpeg", "truncated.png", "truncated.bmp"):
        assert reason(hostile[0] / name) == "truncated"
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_a_limit_of_pixels_that_the_user_sets_is_kept(monkeypatch):
    data = encoded(Image.new("L", (3000, 2000)), "PNG")
    assert read_image(data).size == (3000, 2000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000_000)
    assert reason(data) == "more than 5 million pixels"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(data).size == (3000, 2000)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    (tmp_path / "locked.png").touch()
    (tmp_path / "locked.png").write_bytes(encoded(smooth(), "PNG"))
    (tmp_path / "locked.png").chmod(0)
    assert reason(tmp_path / "locked.png") == "no permission to read it"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(13, "Permission denied"), "no permission to read it"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (MemoryError(), "more than fits into memory"),
        (KeyError(), "damaged (KeyError)"),
        (RuntimeError("a\n  long " + 200 * "x"), "damaged (a long " + 73 * "x" + ")"),
    ],
)
def test_what_systems_and_decoders_raise(error, expected, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encoded(smooth(), "PNG"))

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Image, "open", fail)
    assert reason(tmp_path / "a.png") == expected


def test_names_that_no_file_can_have(tmp_path):
    assert reason(tmp_path / ("a" * 300)) == "File name too long"
    assert reason(Path("a\0b.png")).startswith("damaged (")
    (tmp_path / "a.png").touch()
    assert reason(tmp_path / "a.png" / "b.png") == "no such file"


def test_interrupts_come_through(monkeypatch, tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_image(tmp_path / "a.png")


def test_formats_that_run_programs_are_not_among_those_read():
    assert not {"EPS", "WMF", "PSD", "FITS"} & set(images._formats())
    assert {"PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM"} <= set(images._formats())


OBJECT = RAMP > 120
SIZE = (8, 6)


def mask(source, size=SIZE):
    found = read_mask(source, size)
    assert found.mode == "L"
    assert set(np.unique(found)) <= {0, 255}
    return np.asarray(found) > 0


def as_palette(values):
    """Index 0 is white, index 1 black: colours must not count."""
    picture = Image.fromarray(values.astype(np.uint8))
    picture.putpalette([255, 255, 255, 0, 0, 0])
    return picture


def merged(mode, *bands):
    return Image.merge(mode, [Image.fromarray(band.astype(np.uint8)) for band in bands])


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(OBJECT), "PNG"),
        encoded(Image.fromarray(OBJECT.astype(np.uint8)), "PNG"),
        encoded(Image.fromarray(OBJECT.astype(np.uint8) * 7), "BMP"),
        encoded(Image.fromarray(OBJECT.astype(np.uint16)), "PNG"),
        encoded(Image.fromarray(OBJECT.astype(np.float32) * 1000), "TIFF"),
        encoded(Image.fromarray(OBJECT.astype(np.int32) * -1), "TIFF"),
        encoded(as_palette(OBJECT), "PNG"),
        encoded(as_palette(OBJECT), "GIF"),
        encoded(merged("RGB", 0 * OBJECT, 0 * OBJECT, OBJECT), "PNG"),
        encoded(merged("LA", OBJECT, 0 * OBJECT + 255), "PNG"),
        encoded(merged("RGBA", OBJECT, OBJECT, OBJECT, 1 - OBJECT), "PNG"),
        encoded(Image.fromarray(grey(OBJECT * 255)).convert("CMYK"), "TIFF"),
    ],
    ids=[
        "one bit",
        "0 and 1",
        "0 and 7",
        "16 bits",
        "floats",
        "negative",
        "palette",
        "gif",
        "blue alone",
        "grey with alpha",
        "alpha the other way round",
        "cmyk",
    ],
)
def test_masks_of_every_kind(data):
    assert np.array_equal(mask(data), OBJECT)


def test_the_blur_of_jpeg_is_no_object():
    square = np.zeros((32, 32), dtype=np.uint8)
    square[8:20, 9:27] = 255
    data = encoded(Image.fromarray(square), "JPEG", quality=50)
    assert (np.asarray(Image.open(io.BytesIO(data))) != 0).sum() > 1.2 * (square > 0).sum()
    assert np.array_equal(mask(data, (32, 32)), square > 0)
    assert not mask(encoded(Image.new("L", (32, 32)), "JPEG"), (32, 32)).any()


def test_masks_are_turned_upright_too():
    exif = Image.Exif()
    exif[274] = 6
    data = encoded(Image.fromarray(OBJECT.astype(np.uint8)), "PNG", exif=exif)
    assert np.array_equal(mask(data, (6, 8)), np.rot90(OBJECT, -1))


def test_masks_that_cannot_be_used():
    data = encoded(Image.fromarray(OBJECT), "PNG")
    assert reason(data, size=(6, 8)) == "mask of 8 × 6 pixels, picture of 6 × 8"
    assert reason(data[:-30], size=SIZE) == "mask: truncated"
    assert reason(b"", size=SIZE) == "mask: empty file"
