"""The embedded data: reproducible to the byte, balanced, honestly split, and truthful about where the digit is."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from cardgen.errors import CardgenError
from cardgen.subjects.digits_on_scenes import (
    _PHOTOGRAPHS,
    DIGIT_NAMES,
    MEAN,
    SCENE_NAMES,
    STD,
    Scenes,
    _enlargement,
    _photograph,
    _stripes,
    assemble,
    backgrounds,
    digest,
)

TEST_DIGEST = "671996da9b3b2aef68a4ffec33e37b30292b94e2a8b5afdc36ccb79da861ea7e"
TRAIN_DIGEST = "3e190d6b3a44577192b08c29fb7869fb639f65b292dd911db2d8364f9f71439e"


@pytest.fixture(scope="module")
def test() -> Scenes:
    return assemble("test")


@pytest.fixture(scope="module")
def train() -> Scenes:
    return assemble("train")


def indices(scenes: Scenes) -> set[int]:
    return {int(name.rpartition("digit")[2]) for name in scenes.ids}


def test_same_bytes_on_every_machine(test: Scenes) -> None:
    assert digest(test) == TEST_DIGEST
    assert digest(assemble("train", n=300, seed=3)) == TRAIN_DIGEST


def test_digest_sees_every_part(test: Scenes) -> None:
    flipped = test.masks.copy()
    flipped[0, 0, 0] ^= True
    changed = [
        Scenes(255 - test.images, test.digits, test.scenes, test.masks, test.ids),
        Scenes(test.images, test.scenes, test.scenes, test.masks, test.ids),
        Scenes(test.images, test.digits, test.digits, test.masks, test.ids),
        Scenes(test.images, test.digits, test.scenes, flipped, test.ids),
    ]
    assert len({digest(scenes) for scenes in [test, *changed]}) == 5


def test_shapes_and_names(test: Scenes, train: Scenes) -> None:
    assert (test.images.shape, test.masks.shape) == ((600, 3, 64, 64), (600, 64, 64))
    assert len(train.ids) == 11970
    assert (test.images.dtype, test.masks.dtype) == (np.uint8, np.bool_)
    assert (test.digits.dtype, test.scenes.dtype) == (np.int64, np.int64)
    assert len(DIGIT_NAMES) == len(SCENE_NAMES) == len(set(SCENE_NAMES)) == 10
    assert len(set(test.ids) | set(train.ids)) == 600 + 11970
    assert test.ids[7].startswith("test-0007-digit")


def test_labels_are_those_of_the_corpus(test: Scenes, train: Scenes) -> None:
    target = load_digits().target
    for scenes in (test, train):
        assert [target[int(name[-4:])] for name in scenes.ids] == scenes.digits.tolist()


def test_no_digit_image_is_in_both_splits(test: Scenes, train: Scenes) -> None:
    assert len(indices(test)) == 600
    assert len(indices(train)) == 1197
    assert not indices(test) & indices(train)
    assert indices(assemble("train", seed=5)) == indices(train)


@pytest.mark.parametrize("scene", range(10))
def test_no_pixel_of_a_photograph_is_in_both_splits(scene: int) -> None:
    photograph = _photograph(_PHOTOGRAPHS[scene])
    train, test = _stripes(scene, "train"), _stripes(scene, "test")
    assert len(train) == len(test) >= 2
    joined = np.concatenate([stripe for pair in zip(train, test, strict=True) for stripe in pair], axis=2)
    np.testing.assert_array_equal(joined, photograph[:, :, : joined.shape[2]])
    assert min(stripe.shape[2] for stripe in train) >= 72


def test_crops_come_from_their_own_split(test: Scenes) -> None:
    crops = backgrounds("test", n=40)
    for crop, scene in zip(crops, test.scenes, strict=False):
        views = [np.lib.stride_tricks.sliding_window_view(stripe[0], (64, 64)) for stripe in _stripes(scene, "test")]
        assert any((view[:, :, ::21, ::21] == crop[0, ::21, ::21]).all(axis=(2, 3)).any() for view in views)


def test_digits_and_scenes_are_independent(test: Scenes, train: Scenes) -> None:
    table = np.zeros((10, 10), dtype=int)
    np.add.at(table, (test.digits, test.scenes), 1)
    assert (table == 6).all()
    table[:] = 0
    np.add.at(table, (train.digits, train.scenes), 1)
    assert (table == table[:, :1]).all()
    assert table.min() > 110


def test_fewer_images_are_a_balanced_prefix(test: Scenes) -> None:
    part = assemble("test", n=64)
    for name in ("images", "digits", "scenes", "masks"):
        np.testing.assert_array_equal(getattr(part, name), getattr(test, name)[:64])
    assert part.ids == test.ids[:64]
    for labels in (test.digits, test.scenes):
        assert all(set(labels[k : k + 10]) == set(range(10)) for k in range(0, 600, 10))
    assert len(set(zip(test.digits[:100], test.scenes[:100], strict=True))) == 100


def test_outside_the_mask_stands_the_photograph(test: Scenes) -> None:
    differs = (test.images != backgrounds("test")).any(axis=1)
    assert not (differs & ~test.masks).any()
    share = (differs & test.masks).sum(axis=(1, 2)) / test.masks.sum(axis=(1, 2))
    assert share.min() > 0.9
    assert share.mean() > 0.99


def test_digits_are_legible_but_not_by_brightness(test: Scenes) -> None:
    luma = test.images.astype(float).mean(axis=1)
    inside = np.array([image[mask].mean() for image, mask in zip(luma, test.masks, strict=True)])
    outside = np.array([image[~mask].mean() for image, mask in zip(luma, test.masks, strict=True)])
    change = np.abs(test.images.astype(float) - backgrounds("test")).sum(axis=1)
    assert np.median([image[mask].mean() for image, mask in zip(change, test.masks, strict=True)]) > 150
    assert 0.3 < (inside > outside).mean() < 0.7


def test_digits_are_anywhere_in_the_frame(test: Scenes, train: Scenes) -> None:
    """No place is covered by many of the digits, each edge is touched, and the centre is a weak prior (AUC below 2/3)."""
    covered = train.masks.mean(axis=0)
    assert covered.max() < 0.25
    assert min(covered[0].max(), covered[-1].max(), covered[:, 0].max(), covered[:, -1].max()) > 0.003
    offset = np.arange(64) - 31.5
    centred = -(offset[:, None] ** 2 + offset**2)
    assert np.mean([roc_auc_score(mask.ravel(), centred.ravel()) for mask in test.masks]) < 2 / 3


def test_sizes_vary(test: Scenes) -> None:
    heights = [boxed(mask).shape[0] for mask in test.masks]
    assert min(heights) >= 20
    assert max(heights) <= 34
    assert len(set(heights)) > 10


def test_masks_are_the_digits_strokes(test: Scenes) -> None:
    """The mask is the digit image that the id names, enlarged in floating point to one of the sizes and cut at 5/16."""
    images = load_digits().images
    sides = range(24, 35)
    for name, mask in zip(test.ids[:50], test.masks, strict=False):
        digit, found = images[int(name[-4:])], boxed(mask)
        boxes = [boxed(enlarged(digit, height, width) >= 5.06) for height in sides for width in sides]
        assert any((found != box).mean() < 0.01 for box in boxes if box.shape == found.shape)


def enlarged(digit: np.ndarray, height: int, width: int) -> np.ndarray:
    return bilinear(height) @ digit @ bilinear(width).T


def bilinear(side: int) -> np.ndarray:
    centres = ((np.arange(side) + 0.5) * 8 / side - 0.5).clip(0, 7)
    return np.array([np.interp(centres, np.arange(8), row) for row in np.eye(8)]).T


def boxed(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.where(mask.any(axis=1))[0], np.where(mask.any(axis=0))[0]
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.mark.parametrize("side", [24, 31, 34])
def test_enlargement_is_bilinear(side: int) -> None:
    weights = _enlargement(side)
    assert (weights.sum(axis=1) == 2 * side).all()
    np.testing.assert_allclose(weights / (2 * side), bilinear(side), atol=1e-12)


def test_seed_changes_images_not_digits(test: Scenes) -> None:
    other = assemble("test", n=100, seed=1)
    assert other.ids == test.ids[:100]
    assert (other.digits == test.digits[:100]).all()
    assert (other.scenes != test.scenes[:100]).mean() > 0.5
    assert (other.images != test.images[:100]).any(axis=(1, 2, 3)).all()


def test_mean_and_std_are_the_training_datas(train: Scenes) -> None:
    pixels = train.images / np.float64(255)
    np.testing.assert_allclose(pixels.mean(axis=(0, 2, 3)), MEAN, atol=1e-4)
    np.testing.assert_allclose(pixels.std(axis=(0, 2, 3)), STD, atol=1e-4)


def test_grey_or_colour_is_not_the_only_cue() -> None:
    crops = backgrounds("test", n=100).astype(int)
    scenes = assemble("test", n=100).scenes
    grey = {int(scene) for crop, scene in zip(crops, scenes, strict=True) if (crop[0] == crop[1]).all()}
    assert 3 <= len(grey) <= 7


@pytest.mark.parametrize(("split", "n", "natural"), [("test", 601, 600), ("test", 0, 600), ("train", 20000, 11970)])
def test_impossible_number_of_images(split: str, n: int, natural: int) -> None:
    with pytest.raises(CardgenError) as caught:
        assemble(split, n=n)  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"number of {split} images; expected 1 to {natural}, got {n}; ask for fewer or leave n out"
    )
