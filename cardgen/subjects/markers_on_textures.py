"""Markers on textures: images of which it is known, pixel by pixel, what drives `marker-cnn`. Assembled in memory from a seed.

On a texture lie four squares of 7×7 pixels: the **marker**, one of four patterns of red and blue that decides the class, and three
decoys: a pattern in the same red and blue that is no marker, a marker of another class in green and magenta, to which the model is
blind, and a block of lighter or darker texture. A pixel is

    red = L + t − g,  green = L + 2g,  blue = L − t − g,

L its brightness, t its tint between blue and red, g between magenta and green. The model sees t alone. The mean over channels is L, which
marker and decoys of colour leave as it is, so brightness and edges do not tell where the marker is. All tints but those of patterns
are at most FAINT; how that bounds what the model can find elsewhere is `cardgen.subjects.marker_cnn`'s to say.

Only integers take part, and the draws are raw words of the Philox counter generator, whose stream NumPy guarantees:
the same seed gives the same bytes on every machine.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from numpy.random import Philox

from cardgen.errors import CardgenError

Integers = np.ndarray[Any, np.dtype[np.int64]]
Words = list[int]
Place = tuple[int, int]

SIZE = 40
SIDE = 7
GAP = SIDE - 1
"""Pixels between any two squares, at least: no window of 7×7 meets two of them."""
MARGIN = 1
"""Pixels between squares and the image's border, at least."""
MARKER_NAMES: tuple[str, ...] = ("alpha", "beta", "gamma", "delta")
FAINT = 8
"""Largest |t| and |g| of textures."""
WEAKEST, STRONGEST = 32, 40
"""|t| of a pattern's pixels, drawn an image."""
DARKEST, BRIGHTEST = 64, 191
"""Bounds of L. With those of t and g every channel stays within 0…255."""
GREEN = 24
"""|g| of a pattern's pixels."""
MEAN = (0.5, 0.5, 0.5)  # equal in all channels, as std is: so grey stays grey for the model
STD = (0.25, 0.25, 0.25)
NATURAL = 600

_MARKERS = (  # + is red, - is blue
    "-+++++- ++++--- --+--+- +-++-++ ---++-- ++--+-- ---+-++",
    "++---++ +-+-+-+ ++--++- --++--+ -++---+ --++-++ +--+--+",
    "-+--+-- -+++--+ ---++++ +--+++- +--+-+- -+--++- -+++++-",
    "--+--+- -+--+-- -++---+ -++---+ ++++-+- +++++-+ ++---+-",
)
_TWIN = "++--+-- -++--+- +++++-+ ---++-+ -+---+- --+-+++ ++-+---"
_FITTING, _SLACK = divmod(SIZE - 2 * MARGIN, SIDE)
_GRIDS = (2, 3, 5, 8, 13, SIZE)
_LAYERS = 3
_DRAWS = {"markers": 5, "surroundings": 6}


@dataclass(frozen=True)
class Markers:
    """Assembled images, their labels (positions in MARKER_NAMES), and the pixels of the marker, which decide.

    images: uint8 RGB, 0..255. ids: unique, `marker-<position>-<class>`; they do not depend on the seed.
    """

    images: UInt8[np.ndarray, "n 3 40 40"]
    labels: Int64[np.ndarray, "n"]
    masks: Bool[np.ndarray, "n 40 40"]
    ids: tuple[str, ...]


def assemble(*, n: int = NATURAL, seed: int = 0) -> Markers:
    """The first `n` of 600 images. Fewer are a prefix of more; every four from a multiple of four on hold all classes.

    The seed decides textures, decoys, and places and strengths of the markers.

    Raises CardgenError when n is not in 1..600.
    """
    labels = np.arange(_checked(n), dtype=np.int64) % len(MARKER_NAMES)
    masks = np.zeros((n, SIZE, SIZE), dtype=np.bool_)
    images = np.empty((n, 3, SIZE, SIZE), dtype=np.uint8)
    draws = _words("markers", seed, n)
    places = _places(draws)
    for i, (scene, place, words) in enumerate(zip(_scenes(n, seed, places), places, draws, strict=True)):
        square = _square(place)
        masks[i][square] = True
        scene.tint[square] = _strength(words[4]) * markers()[labels[i]]
        images[i] = scene.image
    ids = tuple(f"marker-{i:04d}-{MARKER_NAMES[label]}" for i, label in enumerate(labels))
    return Markers(images, labels, masks, ids)


def surroundings(*, n: int = NATURAL, seed: int = 0, places: int = 0) -> UInt8[np.ndarray, "n 3 40 40"]:
    """Textures and decoys of `assemble(n=n, seed=seed)` before the marker was drawn.

    Args:
        n: images.
        seed: of textures and decoys.
        places: the seed of the markers that they are to surround.
    """
    return np.stack([scene.image for scene in _scenes(n, seed, _places(_words("markers", places, _checked(n))))])


def markers() -> Int64[np.ndarray, "4 7 7"]:
    """The four patterns: 1 is red, −1 is blue."""
    return np.stack([_pattern(text) for text in _MARKERS])


def twin() -> Int64[np.ndarray, "7 7"]:
    """The pattern that is no marker."""
    return _pattern(_TWIN)


def digest(data: Markers) -> str:
    """Sha256 (hexadecimal) over images, labels and masks, in that order, little-endian."""
    parts = data.images, data.labels.astype("<i8"), data.masks.astype(np.uint8)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@dataclass(frozen=True)
class _Scene:
    """Brightness, tint and green of one image."""

    light: Integers
    tint: Integers
    green: Integers

    @property
    def image(self) -> UInt8[np.ndarray, "3 h w"]:
        channels = self.light + self.tint - self.green, self.light + 2 * self.green, self.light - self.tint - self.green
        return np.stack(channels).astype(np.uint8)


def _scenes(n: int, seed: int, taken: Sequence[Place]) -> Iterator[_Scene]:
    """Textures with three decoys, which leave the markers their places."""
    for i, (words, place) in enumerate(zip(_words("surroundings", seed, n), taken, strict=True)):
        yield _scene(_stream("textures", seed, i), place, i, words)


def _scene(generator: Philox, taken: Place, i: int, words: Words) -> _Scene:
    light = DARKEST + _stretched(_texture(generator), BRIGHTEST - DARKEST)
    tint = _stretched(_texture(generator), 2 * FAINT) - FAINT
    green = _stretched(_texture(generator), 2 * FAINT) - FAINT
    places = [taken]
    for word in words[:3]:
        free = _free(places)
        top, left = free[word % len(free)]
        places.append((int(top), int(left)))
    twin_at, blind_at, block_at = (_square(place) for place in places[1:])
    strength, other, step = words[3:]
    tint[twin_at] = _strength(strength) * twin()
    green[blind_at] = GREEN * markers()[(i + 1 + other % 3) % 4]  # a class that is not the image's own
    light[block_at] = np.clip(light[block_at] + (48 if step % 2 else -48), DARKEST, BRIGHTEST)
    return _Scene(light, tint, green)


def _free(taken: Sequence[Place]) -> Integers:
    """Places with a gap to all squares that are there; of up to three squares none reaches two corners, so there always is one."""
    free = np.ones((SIZE - SIDE + 1, SIZE - SIDE + 1), dtype=np.bool_)
    free[[*range(MARGIN), *range(-MARGIN, 0)]] = False
    free[:, [*range(MARGIN), *range(-MARGIN, 0)]] = False
    reach = SIDE + GAP - 1
    for top, left in taken:
        free[max(top - reach, 0) : top + reach + 1, max(left - reach, 0) : left + reach + 1] = False
    return np.argwhere(free)


def _places(draws: Sequence[Words]) -> list[Place]:
    """Where the markers are: such that all pixels but the margin are covered about equally often, the centre no more than the others.

    Along each axis five squares side by side leave _SLACK pixels; these lie before, after or between them, with equal
    chances. One of the five is the marker's.
    """
    return [(_along(words[0], words[1]), _along(words[2], words[3])) for words in draws]


def _along(word: int, gap: int) -> int:
    square = word % _FITTING
    return MARGIN + SIDE * square + (_SLACK if gap % (_FITTING + 1) <= square else 0)


def _square(place: Place) -> tuple[slice, slice]:
    top, left = place
    return slice(top, top + SIDE), slice(left, left + SIDE)


def _strength(word: int) -> int:
    return WEAKEST + word % (STRONGEST - WEAKEST + 1)


def _texture(generator: Philox) -> Integers:
    """A sum of random grids of different fineness along each axis, enlarged to the image: clouds, stripes, grain."""
    total: Integers = np.zeros((SIZE, SIZE), dtype=np.int64)
    for _ in range(_LAYERS):
        rows, columns, weight = (int(word) for word in generator.random_raw(3))
        down, across = _GRIDS[rows % len(_GRIDS)], _GRIDS[columns % len(_GRIDS)]
        grid = (generator.random_raw(down * across) % np.uint64(256)).astype(np.int64).reshape(down, across)
        total += (1 + weight % 4) * (_enlargement(down) @ grid @ _enlargement(across).T)
    return total


def _stretched(field: Integers, top: int) -> Integers:
    """A field moved and scaled so that it fills 0…top."""
    low, high = int(field.min()), int(field.max())
    return (field - low) * top // max(high - low, 1)


@lru_cache
def _enlargement(side: int) -> Integers:
    """Bilinear weights [SIZE, side] (pixel centres aligned, borders repeated), each row summing to 2 * SIZE."""
    weights = np.zeros((SIZE, side), dtype=np.int64)
    for i in range(SIZE):
        low, part = divmod(min(max(side * (2 * i + 1) - SIZE, 0), 2 * (side - 1) * SIZE), 2 * SIZE)
        weights[i, low] += 2 * SIZE - part
        weights[i, min(low + 1, side - 1)] += part
    return weights


def _pattern(text: str) -> Integers:
    return np.array([[1 if sign == "+" else -1 for sign in row] for row in text.split()], dtype=np.int64)


def _words(purpose: str, seed: int, n: int) -> list[Words]:
    """Raw draws of each image, fewer images being a prefix of more."""
    count = _DRAWS[purpose]
    return [[int(word) for word in row] for row in _stream(purpose, seed).random_raw(n * count).reshape(n, count)]


def _stream(purpose: str, seed: int, i: int = 0) -> Philox:
    name = int.from_bytes(hashlib.sha256(f"{purpose} {i}".encode()).digest()[:8], "little")
    return Philox(key=np.array([seed, name], dtype=np.uint64))


def _checked(n: int) -> int:
    if not 1 <= n <= NATURAL:
        raise CardgenError(f"number of images; expected 1 to {NATURAL}, got {n}; ask for fewer or leave n out")
    return n
