"""The trial on pictures: what libraries do otherwise is seen, what differs in rounding only is let through."""

import numpy as np
import pytest
import torch
from PIL import Image

from cardgen.errors import CardgenError
from cardgen.subjects.preprocess import Preprocess, parse_preprocess
from cardgen.subjects.trial import SIZES, check_same

OURS = parse_preprocess("imagenet")


def as_theirs(preprocess: Preprocess):
    return lambda picture: preprocess.normalised(torch.from_numpy(preprocess.image(picture))[None])[0]


def differs(theirs) -> bool:
    try:
        return check_same(OURS, theirs, "x") is not OURS
    except CardgenError:
        return True


@pytest.mark.parametrize("change", ["", ",interpolation=bicubic", ",interpolation=nearest", ",mean=0.486/0.456/0.406"])
def test_small_differences_pass(change: str) -> None:
    assert not differs(as_theirs(parse_preprocess(f"imagenet{change}")))


@pytest.mark.parametrize(
    "change",
    [
        ",resize=224", ",resize=249", ",resize=256x256", ",crop=223", ",mean=0.5/0.5/0.5,std=0.5/0.5/0.5", ",mean=0.406/0.456/0.485",
        ",std=1/1/1",
    ],
)  # fmt: skip
def test_other_geometry_and_numbers_are_seen(change: str) -> None:
    assert differs(as_theirs(parse_preprocess(f"imagenet{change}")))


def test_other_orders_and_scales_are_seen() -> None:
    ours = as_theirs(OURS)
    assert not differs(ours)
    assert differs(lambda picture: ours(picture).flip(0))
    assert differs(lambda picture: ours(picture).flip(2))
    assert differs(lambda picture: ours(picture).transpose(1, 2))
    assert differs(lambda picture: ours(picture) * 255)
    assert differs(lambda picture: ours(picture) * torch.nan)


def test_a_crop_one_pixel_off_passes() -> None:
    ours = as_theirs(OURS)

    def shifted(picture: Image.Image) -> torch.Tensor:
        return ours(picture).roll((1, -1), (1, 2))

    assert not differs(shifted)
    assert differs(lambda picture: ours(picture).roll(3, 1))


def test_pictures_are_wide_and_tall() -> None:
    seen: list[tuple[int, int]] = []

    def theirs(picture: Image.Image) -> torch.Tensor:
        seen.append((picture.height, picture.width))
        assert np.asarray(picture).std() > 30
        return as_theirs(OURS)(picture)

    check_same(OURS, theirs, "x")
    assert seen == list(SIZES)
    assert any(h > w for h, w in seen)
    assert any(h < w for h, w in seen)
