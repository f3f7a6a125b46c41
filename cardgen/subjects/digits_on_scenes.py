"""Digits on scenes: real handwritten digits drawn on crops of real photographs, assembled in memory from a seed.

Each image carries two independent labels: the digit (the object) and the scene (the background), and the exact mask of
the digit's strokes. The digits are scikit-learn's `load_digits` (1 797 images of 8x8, values 0..16; Alpaydin & Kaynak
1998), the photographs are PNG files inside scikit-image's wheel. Two models on the same images with the two label sets
follow Yang & Kim 2019 (BAM, "Benchmarking Attribution Methods with Relative Feature Importance").

Only integers take part, and the draws are raw words of the Philox counter generator, whose stream NumPy guarantees:
the same seed gives the same bytes on every machine.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from numpy.random import Philox
from PIL import Image
from sklearn.datasets import load_digits

from cardgen.errors import CardgenError

Split = Literal["train", "test"]
Integers = np.ndarray[Any, np.dtype[np.int64]]

SIZE = 64
DIGIT_NAMES: tuple[str, ...] = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SCENE_NAMES: tuple[str, ...] = (
    "brick", "cat", "cell", "coffee", "coins", "grass", "gravel", "moon", "page", "tissue",
)  # fmt: skip
MEAN: tuple[float, float, float] = (0.5014, 0.4566, 0.4272)  # of assemble("train"), pixels in [0, 1]
STD: tuple[float, float, float] = (0.2054, 0.2005, 0.2114)

_PHOTOGRAPHS = (  # files inside the wheel
    "brick.png", "chelsea.png", "cell.png", "coffee.png", "coins.png",
    "grass.png", "gravel.png", "moon.png", "page.png", "ihc.png",
)  # fmt: skip
_NARROWEST = 72  # width of a photograph's stripes at least, pixels: crops of 64 still differ within one
_TEST_PER_DIGIT = 60
_PASSES = {"train": 10, "test": 1}  # placements per digit image; over ten of them it meets every scene once
_SMALLEST, _LARGEST = 24, 34  # height and width that the 8x8 digit is enlarged to, drawn apart, pixels
_OPACITY = 232  # of 256: the scene's texture stays visible through the strokes
_CONTRAST = 240  # a colour stands out from a pixel when their channels differ by this much in sum (of 765)
_CANDIDATES = 16  # colours drawn; the first that stands out from 7/8 of the strokes' rectangle is taken
_TRIES = 2  # positions drawn along each axis; the one farthest from the centre is taken
_DRAWS = 5 + 2 * _TRIES + 4 * _CANDIDATES


@dataclass(frozen=True)
class Scenes:
    """Assembled images with both labels and the truth about where the digit is.

    images: uint8 RGB, 0..255. digits, scenes: labels, positions in DIGIT_NAMES and SCENE_NAMES. masks: True exactly
    where strokes were blended in; every other pixel is the photograph's. ids: unique, `<split>-<position>-digit<index in
    load_digits>`; they do not depend on the seed.
    """

    images: UInt8[np.ndarray, "n 3 64 64"]
    digits: Int64[np.ndarray, "n"]
    scenes: Int64[np.ndarray, "n"]
    masks: Bool[np.ndarray, "n 64 64"]
    ids: tuple[str, ...]


def assemble(split: Split, *, n: int | None = None, seed: int = 0) -> Scenes:
    """The first `n` images of a split (None: all of them: 600 for test, 11 970 for train).

    Which digit images are test-only is fixed, whatever the seed; crops of the two splits come from disjoint columns of
    each photograph. The seed decides scene, crop, place, size and colour. Digit and scene are independent: every ten
    test images from a multiple of ten on hold all digits and all scenes, every hundred all pairs. Fewer images are a
    prefix of more.

    Raises CardgenError when n is not in 1..natural size.
    """
    placed = list(_placements(split, n, seed))
    count = len(placed)
    images = np.empty((count, 3, SIZE, SIZE), dtype=np.uint8)
    masks = np.zeros((count, SIZE, SIZE), dtype=np.bool_)
    for i, place in enumerate(placed):
        images[i], masks[i] = _draw(place)
    digits = np.array([_corpus()[1][place.index] for place in placed], dtype=np.int64)
    scenes = np.array([place.scene for place in placed], dtype=np.int64)
    ids = tuple(f"{split}-{i:04d}-digit{place.index:04d}" for i, place in enumerate(placed))
    return Scenes(images, digits, scenes, masks, ids)


def backgrounds(split: Split, *, n: int | None = None, seed: int = 0) -> UInt8[np.ndarray, "n 3 64 64"]:
    """The scene crops of `assemble(split, n=n, seed=seed)` as they were before the digits were drawn."""
    return np.stack([place.crop for place in _placements(split, n, seed)])


def digest(scenes: Scenes) -> str:
    """Sha256 (hexadecimal) over images, digit labels, scene labels and masks, in that order, little-endian."""
    parts = scenes.images, scenes.digits.astype("<i8"), scenes.scenes.astype("<i8"), scenes.masks.astype(np.uint8)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@dataclass(frozen=True)
class _Place:
    """One image's random choices: a scene's crop, a digit's strokes and their corner in it, and candidate colours."""

    index: int
    scene: int
    crop: UInt8[np.ndarray, "3 64 64"]
    strokes: Int64[np.ndarray, "h w"]
    top: int
    left: int
    colours: Int64[np.ndarray, "candidates 3"]


def _placements(split: Split, n: int | None, seed: int) -> Iterator[_Place]:
    order, scene_of = _order(split, seed)
    natural = _PASSES[split] * len(order)
    n = natural if n is None else n
    if not 1 <= n <= natural:
        raise CardgenError(f"number of {split} images; expected 1 to {natural}, got {n}; ask for fewer or leave n out")
    draws = _stream(f"placements {split}", seed).random_raw(n * _DRAWS).reshape(n, _DRAWS)
    for i, draw in enumerate(draws):
        turn, position = divmod(i, len(order))
        scene = int(scene_of[position] + turn) % len(SCENE_NAMES)
        yield _place(int(order[position]), scene, split, [int(word) for word in draw])


def _place(index: int, scene: int, split: Split, draw: list[int]) -> _Place:
    stripes = _stripes(scene, split)
    stripe = stripes[draw[0] % len(stripes)]
    y = draw[1] % (stripe.shape[1] - SIZE + 1)
    x = draw[2] % (stripe.shape[2] - SIZE + 1)
    strokes = _strokes(index, *(_SMALLEST + word % (_LARGEST - _SMALLEST + 1) for word in draw[3:5]))
    top = _outermost(SIZE - strokes.shape[0], draw[5 : 5 + _TRIES])
    left = _outermost(SIZE - strokes.shape[1], draw[5 + _TRIES : 5 + 2 * _TRIES])
    words = np.array([word % 256 for word in draw[-4 * _CANDIDATES :]], dtype=np.int64).reshape(_CANDIDATES, 4)
    return _Place(index, scene, stripe[:, y : y + SIZE, x : x + SIZE], strokes, top, left, _tints(words))


def _outermost(room: int, words: list[int]) -> int:
    """Of some positions in 0..room the first that lies farthest from the middle.

    Were one position drawn, strokes inside the frame would cover its centre far more often than its edges, and a map
    that is always bright in the centre would find them.
    """
    return max((word % (room + 1) for word in words), key=lambda position: abs(2 * position - room))


def _draw(place: _Place) -> tuple[UInt8[np.ndarray, "3 64 64"], Bool[np.ndarray, "64 64"]]:
    """Blend the digit's strokes into the crop: (256 - a) * scene + a * colour over 256, rounded, a the opacity."""
    height, width = place.strokes.shape
    rows, columns = slice(place.top, place.top + height), slice(place.left, place.left + width)
    opacity: Integers = np.zeros((SIZE, SIZE), dtype=np.int64)
    opacity[rows, columns] = place.strokes
    crop: Integers = place.crop.astype(np.int64)
    colour = _legible(place.colours, crop[:, rows, columns])[:, None, None]
    blended = (crop * (256 - opacity) + colour * opacity + 128) // 256
    return blended.astype(np.uint8), opacity > 0


def _strokes(index: int, height: int, width: int) -> Integers:
    """Opacity of a digit enlarged to [height, width], pale pixels cut and edges steepened; empty borders are trimmed."""
    enlarged: Integers = _enlargement(height) @ _corpus()[0][index] @ _enlargement(width).T
    ink = enlarged * 16 // (4 * height * width)  # 0..256
    opacity = np.clip((ink - 80) * 5 // 2, 0, _OPACITY)
    rows, columns = np.flatnonzero(opacity.any(axis=1)), np.flatnonzero(opacity.any(axis=0))
    return opacity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@lru_cache
def _enlargement(side: int) -> Integers:
    """Bilinear weights [side, 8] (pixel centres aligned, borders repeated), each row summing to 2 * side."""
    weights = np.zeros((side, 8), dtype=np.int64)
    for i in range(side):
        low, part = divmod(min(max(8 * (2 * i + 1) - side, 0), 14 * side), 2 * side)
        weights[i, low] += 2 * side - part
        weights[i, min(low + 1, 7)] += part
    return weights


def _tints(words: Int64[np.ndarray, "candidates 4"]) -> Int64[np.ndarray, "candidates 3"]:
    """Random colours whose saturation is random as well: from grey (0 quarters) to the drawn colour (4 quarters)."""
    colours, quarters = words[:, :3], words[:, 3:] % 5
    grey = _luma(colours)[:, None]
    tints: Integers = grey + (colours - grey) * quarters // 4
    return tints


def _legible(colours: Int64[np.ndarray, "candidates 3"], scene: Int64[np.ndarray, "3 h w"]) -> Int64[np.ndarray, "3"]:
    """The first colour that stands out from 7/8 of the pixels in and around the strokes, else the one that does most.

    Every second pixel along each axis is looked at.
    """
    pixels = scene[:, ::2, ::2].reshape(3, -1)
    red, green, blue = (np.abs(pixels[channel] - colours[:, channel, None]) for channel in range(3))
    clear = np.count_nonzero(red + green + blue >= _CONTRAST, axis=1)
    chosen: Integers = colours[np.argmax(np.minimum(clear, pixels.shape[1] * 7 // 8))]
    return chosen


def _luma(colours: Int64[np.ndarray, "k 3"]) -> Int64[np.ndarray, "k"]:
    luma: Integers = (77 * colours[:, 0] + 150 * colours[:, 1] + 29 * colours[:, 2]) // 256
    return luma


@lru_cache
def _corpus() -> tuple[Integers, Integers]:
    """The digit images [1797, 8, 8], 0..16, and their labels [1797]."""
    bunch = load_digits()
    return bunch.images.astype(np.int64), bunch.target.astype(np.int64)


@lru_cache
def _members(split: Split) -> tuple[Integers, ...]:
    """For each digit the images of a split, as positions in the corpus: sixty for test, all others for training."""
    labels = _corpus()[1]
    shuffled = np.argsort(_stream("split", 0).random_raw(len(labels)), kind="stable")
    chosen = slice(_TEST_PER_DIGIT) if split == "test" else slice(_TEST_PER_DIGIT, None)
    return tuple(shuffled[labels[shuffled] == digit][chosen] for digit in range(len(DIGIT_NAMES)))


def _order(split: Split, seed: int) -> tuple[Integers, Integers]:
    """Digit images of a split in rounds of one per digit, and the scene that each meets first.

    Ten rounds make a Latin square: within a round every scene occurs once, within ten rounds every pair does.
    """
    members = _members(split)
    rounds, kinds = max(map(len, members)), len(members)
    turns = _permutations(f"digits {split}", 0, rounds, kinds)
    start = _permutations(f"scenes {split}", seed, rounds // 10 + 1, kinds)
    shift = _permutations(f"shifts {split}", seed, rounds // 10 + 1, 10)
    pairs = [
        (members[digit][r], (start[r // 10, digit] + shift[r // 10, r % 10]) % len(SCENE_NAMES))
        for r in range(rounds)
        for digit in turns[r]
        if r < len(members[digit])
    ]
    order, scenes = np.array(pairs, dtype=np.int64).T
    return order, scenes


def _permutations(purpose: str, seed: int, count: int, length: int) -> Integers:
    words = _stream(purpose, seed).random_raw(count * length).reshape(count, length)
    return np.argsort(words, axis=1, kind="stable")


def _stream(purpose: str, seed: int) -> Philox:
    name = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    return Philox(key=np.array([seed, name], dtype=np.uint64))


@lru_cache
def _stripes(scene: int, split: Split) -> tuple[UInt8[np.ndarray, "3 h w"], ...]:
    """A photograph cut into as many upright stripes as fit, an even number: by turns for training and for test."""
    photograph = _photograph(_PHOTOGRAPHS[scene])
    count = photograph.shape[2] // (2 * _NARROWEST) * 2
    width = photograph.shape[2] // count
    first = 0 if split == "train" else 1
    return tuple(photograph[:, :, k * width : (k + 1) * width] for k in range(first, count, 2))


def _photograph(file: str) -> UInt8[np.ndarray, "3 h w"]:
    """A photograph as uint8 RGB; grey ones with three equal channels."""
    with files("skimage").joinpath("data", file).open("rb") as stream:
        return np.asarray(Image.open(stream).convert("RGB"), dtype=np.uint8).transpose(2, 0, 1)
