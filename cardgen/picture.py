"""The example picture on a method's card: samples, their maps, and both together. Pillow and numpy; no text in it."""

import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from cardgen.errors import CardgenError

LONG_SIDE, MAX_BYTES = 900, 80_000
ROWS, GUTTER, SMALLEST_TILE, SHRINK = 3, 8, 16, 0.92
PERCENTILE, ROUNDING = 99.5, 1e-6
# 256 colours in all: white, the frame, the scale of the map alone, photographs, overlays (at most 129).
# Steps of a scale are odd in number, so that zero has one of its own.
SCALE_STEPS, PHOTO_COLOURS, OVERLAY_STEPS, OVERLAY_GREYS = 41, 84, 21, 17
PALE_BLACK = 120  # the darkest grey of a photograph under its map
LUMA = np.array([0.299, 0.587, 0.114])
WHITE, FRAME = (255, 255, 255), (200, 203, 208)

# Even steps of lightness in OKLab from anchor to anchor, straight lines in RGB between them.
SEQUENTIAL = ["0c0921", "38064d", "6d015c", "a40357", "d03542", "ed6828", "fb9d30", "fbd075", "fdfbd4"]
DIVERGING = ["0e3685", "075fc1", "4996e4", "9ccdf9", "ffffff", "f7b5a7", "da6d5d", "b02b26", "760711"]


class Size(NamedTuple):
    """The size at which a tile is drawn, and the whole factor by which each of its pixels is then enlarged."""

    height: int
    width: int
    enlarge: int


def example_picture(images: UInt8[np.ndarray, "k c h w"], maps: Float[np.ndarray, "k h w"], signed: bool) -> bytes:
    """A palette PNG of k columns and three rows: the samples, RGB or grey, their maps alone, the maps over the greyed samples.

    Signed maps run from blue (negative) through white (zero) to red (positive), to ± the 99.5th percentile of |map|;
    others from dark (minimum) to pale (99.5th percentile). Each map has its own scale, taken at the size drawn.
    At most 900 px on the long side and 80 000 bytes: small samples are enlarged by a whole factor, large ones reduced;
    where that is too heavy, the size shrinks until it fits. The same input gives the same bytes.
    No sample, more samples than fit, sizes that differ, or maps that are not finite: CardgenError.
    """
    _check(images, maps)
    colours = np.broadcast_to(images, (len(images), 3, *images.shape[2:]))
    tries = (_drawn(colours, maps, signed, size) for size in _sizes(*images.shape))
    return next(png for png in tries if len(png) <= MAX_BYTES)


def alt_text(method_title: str, k: int, signed: bool) -> str:
    """What the picture shows, for those who do not see it: its rows and its colours, as plain text (not escaped).

    >>> alt_text("Grad-CAM", 1, signed=False).split(". ")[0]
    'One sample in three rows: the image, its Grad-CAM map, the map over the greyed image'
    """
    rows = f"{k} samples in three rows: the images, their {method_title} maps, the maps over the greyed images."
    if k == 1:
        rows = f"One sample in three rows: the image, its {method_title} map, the map over the greyed image."
    scale = "Colours run from dark purple (lowest) through red and orange to pale yellow (highest)"
    if signed:
        scale = "Red marks positive values, blue negative ones, and white zero"
    return f"{rows} {scale}; each map has its own scale."


def colour_scale(signed: bool, steps: int) -> UInt8[np.ndarray, "c 3"]:
    """The colour scale from lowest to highest: blue – white – red for signed maps, dark – red – pale for others."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in (DIVERGING if signed else SEQUENTIAL)])
    at = np.linspace(0, len(anchors) - 1, steps)
    return _bytes(np.stack([np.interp(at, range(len(anchors)), channel) for channel in anchors.T], axis=1))


def _check(images: np.ndarray, maps: np.ndarray) -> None:
    k, _, h, w = images.shape
    if maps.shape != (k, h, w):
        raise CardgenError(
            f"images and maps differ in size; expected maps of {(k, h, w)}, got {maps.shape}; "
            "give one map a sample, at the image's size"
        )
    if not np.isfinite(maps).all():
        raise CardgenError("a map holds NaN or infinity; expected finite values; leave that sample out of the picture")
    if next(_sizes(*images.shape), None) is None:
        most = LONG_SIDE // (SMALLEST_TILE + GUTTER)
        raise CardgenError(f"the picture cannot hold {k} samples; expected 1 to {most}, got {k}; choose four, say")


def _sizes(k: int, _: int, h: int, w: int) -> Iterator[Size]:
    """Sizes of a tile that keep the picture within its long side, largest first."""
    fit = min(((LONG_SIDE - GUTTER) / count - GUTTER) / side for count, side in ((k, w), (ROWS, h))) if k else 0
    yield from (Size(h, w, factor) for factor in range(int(fit), 1, -1))
    share = min(fit, 1)
    while share * max(h, w) >= SMALLEST_TILE:
        yield Size(max(1, int(share * h)), max(1, int(share * w)), 1)
        share *= SHRINK


def _drawn(images: np.ndarray, maps: np.ndarray, signed: bool, size: Size) -> bytes:
    """The picture at one size, as PNG."""
    shape = (size.width, size.height)
    photos = np.stack([_resized(Image.fromarray(image.transpose(1, 2, 0)), shape) for image in images])
    levels = np.stack([_levels(_resized(Image.fromarray(_scaled(each)), shape), signed) for each in maps])
    scale = colour_scale(signed, SCALE_STEPS)
    of_photos, photo_palette = _quantised(photos, PHOTO_COLOURS)
    of_overlays, overlay_palette = _overlays(photos @ LUMA / 255, levels, signed)
    starts = np.cumsum([2, len(scale), len(photo_palette)])
    rows = [of_photos + starts[1], _nearest(levels, SCALE_STEPS) + starts[0], of_overlays + starts[2]]
    palette = np.concatenate([np.array([WHITE, FRAME], np.uint8), scale, photo_palette, overlay_palette])
    return _png(_canvas([row.repeat(size.enlarge, 1).repeat(size.enlarge, 2) for row in rows]), palette)


def _resized(image: Image.Image, shape: tuple[int, int]) -> np.ndarray:
    return np.asarray(image if image.size == shape else image.resize(shape, Image.Resampling.BOX))


def _scaled(values: np.ndarray) -> np.ndarray:
    """A map over its largest magnitude: resizing is done in float32, and far smaller differences are rounding."""
    return (values / (np.abs(values).max() or 1)).astype(np.float32)


def _levels(values: np.ndarray, signed: bool) -> np.ndarray:
    """Where each value stands on the colour scale, in 0…1; zero of a signed map at 0.5, a flat unsigned map at 0."""
    values = values - (0 if signed else values.min())
    size = np.abs(values)
    # where only a few pixels stand out, their maximum; where none does, nothing is drawn
    limit = next((limit for limit in (np.percentile(size, PERCENTILE), size.max()) if limit > ROUNDING), 1.0)
    share: np.ndarray = np.clip(values / limit, -1, 1)
    return (share + 1) / 2 if signed else share


def _overlays(grey: np.ndarray, levels: np.ndarray, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Indices and palette of the colour scale over the pale grey photograph.

    The further from zero (from the minimum, if unsigned) the more opaque, and the fewer greys are kept apart below.
    """
    at = np.linspace(0, 1, OVERLAY_STEPS)
    opacity = 0.9 * (np.abs(2 * at - 1) ** 0.75 if signed else at)
    greys = 1 + np.rint((OVERLAY_GREYS - 1) * (1 - opacity) ** 2.5).astype(int)
    ramps = [
        np.linspace(PALE_BLACK, 255, count)[:, None] if count > 1 else np.array([[(PALE_BLACK + 255) / 2]])
        for count in greys
    ]
    blends = zip(ramps, opacity[:, None], colour_scale(signed, OVERLAY_STEPS), strict=True)
    palette = _bytes(np.concatenate([ramp + share * (colour - ramp) for ramp, share, colour in blends]))
    step = _nearest(levels, OVERLAY_STEPS)
    return (np.cumsum(greys) - greys)[step] + np.rint(grey * (greys[step] - 1)).astype(int), palette


def _nearest(levels: np.ndarray, steps: int) -> np.ndarray:
    nearest: np.ndarray = np.rint(levels * (steps - 1)).astype(int)
    return nearest


def _bytes(colours: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.rint(colours).clip(0, 255).astype(np.uint8)
    return rounded


def _quantised(tiles: np.ndarray, colours: int) -> tuple[np.ndarray, np.ndarray]:
    """Tiles [k, h, w, 3] as indices [k, h, w] into the palette [c, 3] that they share, c ≤ colours."""
    strip = Image.fromarray(tiles.reshape(-1, *tiles.shape[2:]))
    reduced = strip.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette = np.array(reduced.getpalette(), dtype=np.uint8).reshape(-1, 3)[:colours]
    return np.asarray(reduced).reshape(tiles.shape[:3]), palette


def _canvas(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of tiles on white (index 0), each tile in a thin frame (index 1)."""
    k, h, w = rows[0].shape
    canvas = np.zeros((len(rows) * (h + GUTTER) + GUTTER, k * (w + GUTTER) + GUTTER), dtype=np.uint8)
    for i, tiles in enumerate(rows):
        for j, tile in enumerate(tiles):
            top, left = i * (h + GUTTER) + GUTTER, j * (w + GUTTER) + GUTTER
            canvas[top - 1 : top + h + 1, left - 1 : left + w + 1] = 1
            canvas[top : top + h, left : left + w] = tile
    return canvas


def _png(indices: np.ndarray, palette: np.ndarray) -> bytes:
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette(palette.tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
