"""A folder of odd, broken and hostile files, each with what reading it must give: these pixels, or this reason."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 6, 8
RAMP = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH) * 5  # 0 … 235
COLOUR = np.stack([RAMP, 255 - RAMP, RAMP[:, ::-1]], axis=-1)
ALPHA = np.full_like(RAMP, 255)
ALPHA[:2], ALPHA[2:4] = 0, 51
DEEP = np.array([[0, 128, 129, 256], [257, 32767, 32768, 65535]], dtype=np.uint16)
DEEP_SEEN = np.array([[0, 0, 1, 1], [1, 127, 128, 255]], dtype=np.uint8)  # v / 257, rounded
WHITE = np.full_like(COLOUR, 255)

Expected = str | np.ndarray
"""The reason, or the pixels [h, w, 3]."""
CLOSE = {
    "cmyk.jpg": 4,
    "jpeg.png": 4,
    "damaged-exif.jpg": 4,
    "lab.tif": 3,
    "hidden.png": 1,
    "grey-alpha.png": 1,
    "phone.jpg": 4,
    "ycbcr.tif": 2,
}
"""How far pixels may be off, in levels of 255, where a format or blending rounds; 0 for all others."""


def write_hostile(folder: Path) -> dict[str, Expected]:
    """Write all files; the same name may be read from any working folder."""
    folder.mkdir(parents=True, exist_ok=True)
    expected: dict[str, Expected] = {}
    for kind in (_modes, _deep, _frames, _rotated, _broken, _disguised, _huge, _odd_names, _links):
        expected |= kind(folder)
    return expected


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(values, dtype=np.uint8)[..., None], 3, axis=-1)


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.round(colours * share + 255 * (1 - share)).astype(np.uint8)


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def smooth() -> Image.Image:
    """A picture of 64 × 48 pixels that JPEG changes little."""
    y, x = np.mgrid[:48, :64]
    return Image.fromarray(np.stack([4 * x, 5 * y, 2 * x + 2 * y], axis=-1).astype(np.uint8))


def tiff(values: bytes, shape: tuple[int, int], bits: int, *, photometric: int = 1, sample_format: int = 1) -> bytes:
    """An uncompressed grey TIFF, little-endian, from its pixels' bytes."""
    tags = [
        (256, shape[1]),
        (257, shape[0]),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 8),
        (277, 1),
        (278, shape[0]),
    ]
    tags += [(279, len(values)), (339, sample_format)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, 8 + len(values)) + values + directory


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, data: bytes = b"", before: bytes = b"") -> bytes:
    """A PNG by its chunks; `data` is uncompressed rows, each after its filter byte."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _modes(folder: Path) -> dict[str, Expected]:
    colour, ramp = Image.fromarray(COLOUR), Image.fromarray(RAMP)
    colour.save(folder / "rgb.png")
    colour.save(folder / "rgb.bmp")
    colour.save(folder / "rgb.ppm")
    colour.save(folder / "lossless.webp", lossless=True)
    ramp.save(folder / "grey.png")
    ramp.save(folder / "white-is-zero.tif", tiffinfo={262: 0})
    Image.merge("LA", [ramp, Image.fromarray(ALPHA)]).save(folder / "grey-alpha.png")
    hidden = COLOUR * (ALPHA > 0)[..., None]  # black lies under what is wholly transparent
    Image.merge("RGBA", [*Image.fromarray(hidden).split(), Image.fromarray(ALPHA)]).save(folder / "hidden.png")
    ramp.save(folder / "grey-key.png", transparency=10)
    colour.save(folder / "colour-key.png", transparency=(0, 255, 35))
    palette = Image.fromarray(RAMP // 80)
    palette.putpalette([200, 10, 20, 0, 0, 0, 30, 220, 40])
    palette.save(folder / "palette.png")
    palette.save(folder / "palette-key.png", transparency=1)
    colours = np.array([[200, 10, 20], [0, 0, 0], [30, 220, 40]], dtype=np.uint8)
    Image.fromarray(RAMP > 99).save(folder / "one-bit.png")
    colour.convert("CMYK").save(folder / "cmyk.tif")
    colour.convert("YCbCr").save(folder / "ycbcr.tif", compression="tiff_lzw")
    pale = Image.fromarray((96 + np.asarray(smooth()) * 0.4).astype(np.uint8))
    pale.convert("LAB").save(folder / "lab.tif")
    smooth().convert("CMYK").save(folder / "cmyk.jpg", quality=100, subsampling=0)
    return {
        "rgb.png": COLOUR,
        "rgb.bmp": COLOUR,
        "rgb.ppm": COLOUR,
        "lossless.webp": COLOUR,
        "grey.png": grey(RAMP),
        "white-is-zero.tif": grey(RAMP),
        "grey-alpha.png": over_white(grey(RAMP), ALPHA),
        "hidden.png": over_white(COLOUR, ALPHA),
        "grey-key.png": grey(np.where(RAMP == 10, 255, RAMP)),
        "colour-key.png": np.where((COLOUR == (0, 255, 35)).all(-1, keepdims=True), 255, COLOUR),
        "palette.png": colours[RAMP // 80],
        "palette-key.png": np.where((RAMP // 80 == 1)[..., None], 255, colours[RAMP // 80]),
        "one-bit.png": grey(np.where(RAMP > 99, 255, 0)),
        "cmyk.tif": COLOUR,
        "ycbcr.tif": COLOUR,
        "lab.tif": np.asarray(pale),
        "cmyk.jpg": np.asarray(smooth()),
    }


def _deep(folder: Path) -> dict[str, Expected]:
    shape, flat = DEEP.shape, DEEP.astype("<u2").tobytes()
    halves = np.array([[0, 0.5], [0.25, 1]], dtype="<f4")
    nans = np.array([[0, 0.5], [np.nan, 1]], dtype="<f4")
    beyond = "grey values from {} to {}; expected 0 to 1"
    whole = "whole numbers of {} bits, whose white is unknown; expected 8 or 16 bits without a sign"
    files = {
        "deep.png": (encoded(Image.fromarray(DEEP), "PNG"), grey(DEEP_SEEN)),
        "deep.pgm": (b"P5 4 2 65535\n" + DEEP.astype(">u2").tobytes(), grey(DEEP_SEEN)),
        "deep.tif": (tiff(flat, shape, 16), grey(DEEP_SEEN)),
        "deep-white-is-zero.tif": (tiff(flat, shape, 16, photometric=0), grey(255 - DEEP_SEEN)),
        "twelve-bits.tif": (tiff(bytes([0x00, 0x0F, 0xFF, 0x80, 0x00, 0x00]), (2, 2), 12), grey([[0, 255], [128, 0]])),
        "deep-key.png": (encoded(Image.fromarray(DEEP), "PNG", transparency=32767), grey(np.where(DEEP == 32767, 255, DEEP_SEEN))),
        "deep-colour.png": (
            png(2, 1, depth=16, data=b"\0" + struct.pack(">6H", 0, 65535, 257 * 7, 257 * 200, 257, 0)),
            np.array([[[0, 255, 7], [200, 1, 0]]], dtype=np.uint8),
        ),
        "float.tif": (tiff(halves.tobytes(), (2, 2), 32, sample_format=3), grey([[0, 128], [64, 255]])),
        "float-255.tif": (tiff((halves * 255).tobytes(), (2, 2), 32, sample_format=3), beyond.format(0, 255)),
        "float-nan.tif": (tiff(nans.tobytes(), (2, 2), 32, sample_format=3), beyond.format("nan", "nan")),
        "signed.tif": (tiff(DEEP.astype("<i2").tobytes(), shape, 16, sample_format=2), whole.format(16)),
        "long.tif": (tiff(DEEP.astype("<u4").tobytes(), shape, 32), whole.format(32)),
    }  # fmt: skip
    return _written(folder, files)


def _frames(folder: Path) -> dict[str, Expected]:
    """Of several pictures in one file the first counts."""
    first, second = Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)
    first.save(folder / "moving.png", save_all=True, append_images=[second])
    first.save(folder / "pages.tif", save_all=True, append_images=[second])
    ramp = Image.fromarray(RAMP)
    ramp.save(folder / "moving.gif", save_all=True, append_images=[Image.fromarray(255 - RAMP)])
    return {"moving.png": COLOUR, "pages.tif": COLOUR, "moving.gif": grey(RAMP)}


def _rotated(folder: Path) -> dict[str, Expected]:
    """The camera was held upright: the first row of pixels belongs on the right side (orientation 6)."""
    held = Image.Exif()
    held[274] = 6
    Image.fromarray(COLOUR).save(folder / "phone.png", exif=held)
    Image.fromarray(COLOUR).save(folder / "phone.tif", exif=held)
    Image.fromarray(DEEP).save(folder / "phone-deep.png", exif=held)
    smooth().save(folder / "phone.jpg", quality=100, subsampling=0, exif=held)
    broken = b"Exif\0\0no TIFF, whatever it says"
    smooth().save(folder / "damaged-exif.jpg", quality=100, subsampling=0, exif=broken)
    return {
        "phone.png": np.rot90(COLOUR, -1),
        "phone.tif": np.rot90(COLOUR, -1),
        "phone-deep.png": np.rot90(grey(DEEP_SEEN), -1),
        "phone.jpg": np.rot90(np.asarray(smooth()), -1),
        "damaged-exif.jpg": np.asarray(smooth()),
    }


def _broken(folder: Path) -> dict[str, Expected]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = {form: encoded(noise, form) for form in ("JPEG", "PNG", "GIF", "BMP", "TIFF")}
    flipped = bytearray(whole["PNG"])
    flipped[len(flipped) // 2] ^= 255
    files = {f"truncated.{form.lower()}": (data[: len(data) * 6 // 10], "truncated") for form, data in whole.items()}
    files |= {
        "last-bytes-missing.jpg": (whole["JPEG"][:-20], "truncated"),
        "flipped.png": (bytes(flipped), "damaged (broken data stream when reading image file)"),
        "empty.png": (b"", "empty file"),
        "only-a-head.png": (b"\x89PNG\r\n\x1a\n", "not a picture of a known format"),
    }
    return _written(folder, files)


def _disguised(folder: Path) -> dict[str, Expected]:
    (folder / "folder.png").mkdir(exist_ok=True)
    unknown = "not a picture of a known format"
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n(%pipe%true) (w) file\n"
    files = {
        "jpeg.png": (encoded(smooth(), "JPEG", quality=100, subsampling=0), np.asarray(smooth())),
        "text.png": (b"a letter, not a picture\n" * 20, unknown),
        "page.jpg": (b"<!doctype html><title>404</title>", unknown),
        "script.jpg": (script, unknown),
        "drawing.png": (b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="6"/>', unknown),
        "zeros.jpg": (bytes(1000), unknown),
    }
    return _written(folder, files) | {"folder.png": "a folder"}


def _huge(folder: Path) -> dict[str, Expected]:
    """A pixel and a stripe are pictures; millions of pixels in a few bytes are none."""
    unpacked = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(80_000_000)))
    files = {
        "pixel.png": (png(1, 1, data=b"\0\1\2\3"), np.array([[[1, 2, 3]]], dtype=np.uint8)),
        "stripe.png": (encoded(Image.new("RGB", (3000, 1), "red"), "PNG"), np.full((1, 3000, 3), (255, 0, 0), dtype=np.uint8)),
        "bomb.png": (png(10_000, 10_000), "more than 89 million pixels"),
        "larger-bomb.png": (png(100_000, 100_000), "more than 89 million pixels"),
        "text-bomb.png": (png(1, 1, data=b"\0\1\2\3", before=unpacked), "packed text of absurd length"),
    }  # fmt: skip
    return _written(folder, files)


def _odd_names(folder: Path) -> dict[str, Expected]:
    picture = encoded(Image.fromarray(COLOUR), "PNG")
    names = [
        "ünï 名前 🦉.png",
        "  two  spaces .PNG",
        "line\nbreak.png",
        "-rf *;$(true)'\".png",
        "%s{0}\x1b[31m.png",
        "a" * 200 + ".png",
    ]
    return _written(folder, dict.fromkeys(names, (picture, COLOUR)))


def _links(folder: Path) -> dict[str, Expected]:
    links = {
        "loop.png": ("loop.png", "a link that leads to itself"),
        "dangling.png": ("nowhere.png", "no such file"),
        "endless.png": ("/dev/zero", "not a regular file"),
        "link.png": ("rgb.png", COLOUR),
    }
    for name, (target, _) in links.items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe.png")
    return {name: outcome for name, (_, outcome) in links.items()} | {"pipe.png": "not a regular file"}


def _written(folder: Path, files: dict[str, tuple[bytes, Expected]]) -> dict[str, Expected]:
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    return {name: outcome for name, (_, outcome) in files.items()}
