"""The data with known deciding pixels: reproducible to the byte, balanced, within its bounds, and no help to those who guess."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from cardgen import Space, explain
from cardgen.errors import CardgenError
from cardgen.subjects.marker_cnn import marker_cnn
from cardgen.subjects.markers_on_textures import (
    BRIGHTEST,
    DARKEST,
    FAINT,
    GAP,
    GREEN,
    MARGIN,
    MARKER_NAMES,
    MEAN,
    NATURAL,
    SIDE,
    SIZE,
    STD,
    STRONGEST,
    WEAKEST,
    Markers,
    assemble,
    digest,
    markers,
    surroundings,
    twin,
)

DIGEST = "f55ba4dfb38b38691cce29a7f2953271edb800d66ea9e33bf219e3d8619cd0d7"


@pytest.fixture(scope="module")
def data() -> Markers:
    return assemble()


def parts(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brightness, tint and green of images, three times each so that they stay whole numbers; the tint is halved."""
    red, green, blue = images.astype(int).transpose(1, 0, 2, 3)
    assert not ((red - blue) % 2).any()
    light = red + green + blue
    return light, (red - blue) // 2, 2 * green - red - blue


def corner(mask: np.ndarray) -> tuple[int, int]:
    rows, columns = np.where(mask.any(axis=1))[0], np.where(mask.any(axis=0))[0]
    assert (rows[-1] - rows[0], columns[-1] - columns[0], mask.sum()) == (SIDE - 1, SIDE - 1, SIDE**2)
    return int(rows[0]), int(columns[0])


def test_same_bytes_on_every_machine(data: Markers) -> None:
    assert digest(data) == DIGEST
    assert digest(assemble(n=8, seed=1)) != digest(assemble(n=8))


def test_digest_sees_every_part(data: Markers) -> None:
    flipped = data.masks.copy()
    flipped[0, 0, 0] ^= True
    changed = [
        Markers(255 - data.images, data.labels, data.masks, data.ids),
        Markers(data.images, 1 - data.labels, data.masks, data.ids),
        Markers(data.images, data.labels, flipped, data.ids),
    ]
    assert len({digest(each) for each in [data, *changed]}) == 4


def test_shapes_names_and_balance(data: Markers) -> None:
    assert (data.images.shape, data.images.dtype) == ((NATURAL, 3, SIZE, SIZE), np.uint8)
    assert (data.masks.shape, data.masks.dtype) == ((NATURAL, SIZE, SIZE), np.bool_)
    assert len(set(data.ids)) == NATURAL
    assert all(name.endswith(MARKER_NAMES[label]) for name, label in zip(data.ids, data.labels, strict=True))
    assert all(set(data.labels[k : k + 4]) == {0, 1, 2, 3} for k in range(0, NATURAL, 4))


def test_fewer_images_are_a_prefix(data: Markers) -> None:
    few = assemble(n=30)
    for name in ("images", "labels", "masks"):
        np.testing.assert_array_equal(getattr(few, name), getattr(data, name)[:30])
    assert few.ids == data.ids[:30]
    np.testing.assert_array_equal(surroundings(n=30, seed=4), surroundings(n=60, seed=4)[:30])


def test_the_mask_is_where_the_marker_was_drawn_and_shows_in_the_tint_alone(data: Markers) -> None:
    bare = surroundings()
    differs = (data.images != bare).any(axis=1)
    np.testing.assert_array_equal(differs, data.masks)
    (light, tint, green), (light_before, _, green_before) = parts(data.images), parts(bare)
    np.testing.assert_array_equal(light, light_before)
    np.testing.assert_array_equal(green, green_before)
    for mask, label, each in zip(data.masks, data.labels, tint, strict=True):
        square = each[mask].reshape(SIDE, SIDE)
        strength = abs(int(square[0, 0]))
        assert WEAKEST <= strength <= STRONGEST
        np.testing.assert_array_equal(square, strength * markers()[label])


def test_each_image_holds_three_decoys_and_nothing_else_is_strong(data: Markers) -> None:
    """Every image but its marker within bounds; the twin and the blind marker found by their colours; a gap to the marker."""
    light, tint, green = parts(surroundings())
    assert 3 * DARKEST <= light.min() < light.max() <= 3 * BRIGHTEST
    strong, unseen = np.abs(tint) > FAINT, np.abs(green) > 6 * FAINT
    assert not (strong & unseen).any()
    for i, mask in enumerate(data.masks):
        places = [corner(mask), corner(strong[i]), corner(unseen[i])]
        for k, (top, left) in enumerate(places):
            assert MARGIN <= min(top, left) <= max(top, left) <= SIZE - SIDE - MARGIN
            assert all(max(abs(top - y), abs(left - x)) >= SIDE + GAP for y, x in places[:k])
        square = tint[i][strong[i]].reshape(SIDE, SIDE)
        np.testing.assert_array_equal(square, abs(int(square[0, 0])) * twin())
        blind = green[i][unseen[i]].reshape(SIDE, SIDE) // (6 * GREEN)
        kinds = [k for k, pattern in enumerate(markers()) if (pattern == blind).all()]
        assert len(kinds) == 1
        assert kinds != [data.labels[i]]


def test_other_surroundings_leave_the_marker_its_place(data: Markers) -> None:
    _, tint, _ = parts(surroundings(n=200, seed=9))
    for mask, strong in zip(data.masks, np.abs(tint) > FAINT, strict=False):
        (top, left), (y, x) = corner(mask), corner(strong)
        assert max(abs(top - y), abs(left - x)) >= SIDE + GAP


def test_textures_differ_in_kind(data: Markers) -> None:
    """Some smooth, some grainy, some striped either way."""
    light = data.images[:100].astype(float).mean(axis=1)
    down, across = (np.abs(np.diff(light, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2))
    assert min(down.min(), across.min()) < 8
    assert max(down.max(), across.max()) > 30
    assert ((down > 2 * across).sum() > 5) & ((across > 2 * down).sum() > 5)


@pytest.mark.parametrize("prior", ["edges", "input_magnitude", "centred_gaussian", "mean_mask"])
def test_priors_are_near_chance(data: Markers, prior: str) -> None:
    inputs = (torch.from_numpy(data.images[:200]).float() / 255 - 0.5) / 0.25
    masks, targets = torch.from_numpy(data.masks[:200]), torch.from_numpy(data.labels[:200])
    maps = explain(prior, marker_cnn(), inputs, targets, masks=masks, space=Space.normalised(MEAN, STD)).numpy()
    aucs = [roc_auc_score(mask.ravel(), each.ravel()) for mask, each in zip(data.masks[:200], maps, strict=True)]
    assert 0.4 < np.mean(aucs) < 0.65


def test_every_pixel_but_the_margin_is_covered(data: Markers) -> None:
    covered = data.masks.mean(axis=0)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert 0 < covered.min() < covered.max() < 3 * covered.mean()


@pytest.mark.parametrize("n", [0, 601])
def test_impossible_number_of_images(n: int) -> None:
    for make in (assemble, surroundings):
        with pytest.raises(CardgenError) as caught:
            make(n=n)
        assert str(caught.value) == f"number of images; expected 1 to 600, got {n}; ask for fewer or leave n out"
