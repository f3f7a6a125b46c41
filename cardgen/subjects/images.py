"""Files to pictures as people see them: 8-bit RGB and upright, or refused with the reason in a few words."""

import errno
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageFile, UnidentifiedImageError

from cardgen.errors import CardgenError

Source = Path | bytes
FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Those that hold pictures and nothing to be run: EPS, for one, would start a PostScript interpreter."""

_BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT = 258, 262, 274, 339  # tags of TIFF and EXIF
_WHITE_IS_ZERO, _UNSIGNED = 0, 1
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unreadable(CardgenError):
    """A file that gives no picture; the message is the reason in a few words."""


def read_image(source: Source) -> Image.Image:
    """The picture in a file (or its bytes), 8-bit RGB, turned upright by its EXIF orientation.

    Transparent pixels are laid over white, as viewers show them: whatever colour lies hidden under them, black say, would draw
    edges that nobody sees. Grey of 16 bits is scaled from its whole range (65 535 becomes 255, rounded), floats from 0…1; of
    colours of 16 bits the high byte is taken. Of animations and documents the first frame is read. Colour profiles are not
    applied, since training pipelines do not either.

    Raises:
        Unreadable: no file, no picture, a damaged or truncated one, numbers whose range is unknown, or more pixels than Pillow's
            `Image.MAX_IMAGE_PIXELS`.
    """
    return _read(source, _rgb)


def read_mask(source: Source, size: tuple[int, int]) -> Image.Image:
    """The object's mask in a file: 255 where the file holds anything but 0, else 0, upright.

    Palette images count by index, whatever its colour; alpha is ignored. JPEG blurs edges with values near 0, so there the
    object is what is at least half as bright as the brightest pixel.

    Args:
        size: width and height of the picture it belongs to, upright.

    Raises:
        Unreadable: as `read_image`, or a mask of another size.
    """
    try:
        mask = _read(source, _object)
    except Unreadable as error:
        raise Unreadable(f"mask: {error}") from None
    if mask.size != size:
        raise Unreadable(f"mask of {mask.width} × {mask.height} pixels, picture of {size[0]} × {size[1]}")
    return mask


def _read(source: Source, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    try:
        with _strict(), _stream(source) as stream, Image.open(stream, formats=_formats()) as picture:
            picture.load()
            way = _UPRIGHT.get(_orientation(picture))
            converted = convert(picture)
            return converted if way is None else converted.transpose(way)
    except Unreadable:
        raise
    except Exception as error:  # on damaged files decoders raise whatever they stumble over
        raise Unreadable(_reason(error)) from None


@contextmanager
def _strict() -> Iterator[None]:
    """No half-read pictures, however a user's module has set Pillow; its warnings stay inside, but too many pixels are an error."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def _stream(source: Source) -> Iterator[BinaryIO]:
    """The bytes of a regular file: pipes and devices, which may never end, are refused unopened."""
    status = None if isinstance(source, bytes) else source.stat()
    if status and stat.S_ISDIR(status.st_mode):
        raise Unreadable("a folder")
    if status and not stat.S_ISREG(status.st_mode):
        raise Unreadable("not a regular file")
    if not (status.st_size if status else source):
        raise Unreadable("empty file")
    with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        yield stream


def _formats() -> list[str]:
    """Those of FORMATS that this Pillow, with the plug-ins imported, can read."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none or the EXIF block is damaged, which viewers pass over too."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return Image.fromarray(_grey(picture)).convert("RGB")
    if picture.has_transparency_data:
        seen = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    return picture.convert("RGB")


def _grey(picture: Image.Image) -> Shaped[np.ndarray, "h w"]:
    """Grey of more than 8 bits, scaled to 0…255 from its whole range."""
    shares = np.asarray(picture).astype(np.float64) / _highest(picture)
    low, high = float(shares.min()), float(shares.max())
    if not 0 <= low <= high <= 1:
        raise Unreadable(f"grey values from {low:g} to {high:g}; expected 0 to 1")
    if _tags(picture).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        shares = 1 - shares
    if picture.info.get("transparency") is not None:
        shares[np.asarray(picture) == picture.info["transparency"]] = 1
    return np.floor(shares * 255 + 0.5).astype(np.uint8)


def _highest(picture: Image.Image) -> float:
    """The value that stands for white."""
    if picture.mode == "F":
        return 1.0
    bits, tags = 16, _tags(picture)
    if picture.format == "TIFF":
        bits = tags.get(_BITS, (1,))[0]
        if bits > 16 or tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] != _UNSIGNED:
            raise Unreadable(
                f"whole numbers of {bits} bits, whose white is unknown; expected 8 or 16 bits without a sign"
            )
    return float(2**bits - 1)


def _tags(picture: Image.Image) -> dict[int, Any]:
    return dict(getattr(picture, "tag_v2", {}))


def _object(picture: Image.Image) -> Image.Image:
    if picture.mode in ("CMYK", "HSV", "LAB", "YCbCr"):
        picture = picture.convert("RGB")
    values = np.atleast_3d(np.asarray(picture))
    colours = values[..., :-1] if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") else values
    inside = colours >= max(1, colours.max() / 2) if picture.format in ("JPEG", "MPO") else colours != 0
    return Image.fromarray(inside.any(axis=2).astype(np.uint8) * np.uint8(255))


_REASONS = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file",
    errno.EACCES: "no permission to read it",
    errno.EPERM: "no permission to read it",
    errno.ELOOP: "a link that leads to itself",
}


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {(Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a known format"
    if isinstance(error, OSError) and error.errno:
        return _REASONS.get(error.errno, error.strerror or "not readable")
    if isinstance(error, MemoryError):
        return "more than fits into memory"
    text = " ".join(str(error).split())
    if "decompressed data too large" in text.lower():
        return "packed text of absurd length"
    return "truncated" if "truncated" in text.lower() else f"damaged ({text or type(error).__name__:.80})"
