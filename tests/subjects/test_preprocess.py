"""Preprocessing: the geometry and numbers of the libraries that trained the models, masks cut like their pictures, clear settings."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models import get_weight

from cardgen.errors import CardgenError
from cardgen.subjects.preprocess import INTERPOLATIONS, PRESETS, Preprocess, parse_preprocess

UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
WRITE_OUT = "or write it out, such as --preprocess imagenet, or --preprocess size=224,mean=0.5/0.5/0.5,std=0.5/0.5/0.5"
BY_255 = "expected those of images in [0, 1], a std above 0; divide by 255 what was taken of images in 0 to 255"
LARGER = "expected a resize at least as large; mend crop or resize"
ODD = [(333, 211), (211, 334), (64, 64), (500, 497), (31, 700)]


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def ours(preprocess: Preprocess, picture: Image.Image) -> torch.Tensor:
    return preprocess.normalised(torch.from_numpy(preprocess.image(picture))[None])[0]


@pytest.mark.parametrize("size", ODD)
@pytest.mark.parametrize(
    ("weights", "settings"),
    [
        ("ResNet50_Weights.IMAGENET1K_V1", "resize=256,crop=224"),
        ("ResNet50_Weights.IMAGENET1K_V2", "resize=232,crop=224"),
        ("EfficientNet_B0_Weights.IMAGENET1K_V1", "resize=256,crop=224,interpolation=bicubic"),
        ("ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1", "size=384,interpolation=bicubic"),
    ],
)
def test_inputs_are_torchvisions_bit_for_bit(weights: str, settings: str, size: tuple[int, int]) -> None:
    theirs = get_weight(weights).transforms()(noise(*size))
    assert torch.equal(ours(parse_preprocess(f"imagenet,{settings}"), noise(*size)), theirs)


def test_every_filter_is_pillows() -> None:
    picture = noise(9, 12)
    for name in INTERPOLATIONS:
        expected = np.asarray(picture.resize((6, 5), Image.Resampling[name.upper()]))
        made = Preprocess((5, 6), (5, 6), **UNIT, interpolation=name).image(picture)
        assert np.array_equal(made, expected.transpose(2, 0, 1))
    assert (
        len(
            {Preprocess((5, 6), (5, 6), **UNIT, interpolation=name).image(picture).tobytes() for name in INTERPOLATIONS}
        )
        >= 5
    )


def test_literal_crop_and_normalisation() -> None:
    picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10)
    grey = Preprocess((2, 2), None, (0.5,), (0.25,))
    assert grey.image(picture).tolist() == [[[80, 90], [140, 150]]]
    values = grey.normalised(torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8))
    assert torch.allclose(values, torch.tensor([[[[-2.0, 2.0], [-1.2, -0.4]]]]))
    colour = Preprocess((1, 1), None, (0.0, 0.5, 1.0), (1.0, 0.5, 0.25))
    pixel = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    assert colour.normalised(pixel).flatten().tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("resize", "crop", "size", "resized"),
    [
        ((8,), (8, 8), (10, 20), (8, 16)),
        ((8,), (8, 8), (20, 10), (16, 8)),
        ((8,), (4, 4), (3, 7), (8, 18)),
        ((8, 4), (8, 4), (5, 5), (8, 4)),
        (None, (4, 4), (9, 5), (9, 5)),
        (None, (4, 4), (2, 3), (4, 6)),
        (None, (4, 8), (4, 4), (8, 8)),
    ],
)
def test_sizes_before_the_crop(resize, crop, size, resized) -> None:
    preprocess = Preprocess(crop, resize, **UNIT)
    assert preprocess._resized(*size) == resized
    assert preprocess.image(noise(*size)).shape == (3, *crop)


@pytest.mark.parametrize("text", ["resize=16,crop=12", "size=20x10", "crop=15", "resize=40x30,crop=24x7"])
@pytest.mark.parametrize("size", [(33, 50), (20, 20), (7, 9)])
def test_masks_are_cut_like_their_pictures(text: str, size: tuple[int, int]) -> None:
    preprocess = parse_preprocess(f"{text},interpolation=nearest")
    mask = np.random.default_rng(0).random(size) < 0.5
    picture = Image.fromarray(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2))
    cut = preprocess.mask(Image.fromarray(mask))
    assert cut.dtype == bool
    assert cut.any()
    assert not cut.all()
    assert np.array_equal(cut, preprocess.image(picture)[0] > 0)


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "I", "F", "RGB", "P", "LA", "RGBA"])
def test_masks_of_any_mode(mode: str) -> None:
    values = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    made = {
        "I;16": lambda: Image.fromarray(values.astype(np.uint16)),
        "I": lambda: Image.fromarray(values.astype(np.int32)),
        "F": lambda: Image.fromarray(values.astype(np.float32) / 10),
        "1": lambda: Image.fromarray(values * 255).convert("1"),
    }.get(mode, lambda: Image.fromarray(values).convert(mode))()
    assert made.mode == mode
    assert parse_preprocess("crop=2").mask(made).tolist() == [[False, True], [True, False]]


def test_channels_follow_the_mean() -> None:
    red, grey = Image.new("RGB", (2, 2), (255, 0, 0)), Image.new("L", (2, 2), 7)
    assert parse_preprocess("size=2").image(red)[:, 0, 0].tolist() == [255, 0, 0]
    assert parse_preprocess("size=2").image(grey)[:, 0, 0].tolist() == [7, 7, 7]
    assert parse_preprocess("size=2,mean=0.5").image(red)[:, 0, 0].tolist() == [76]
    assert parse_preprocess("size=2,mean=0.5").channels == 1


def test_space_bounds_what_normalising_gives() -> None:
    for text in ("imagenet", "size=8,mean=0.5,std=0.5"):
        preprocess = parse_preprocess(text)
        extremes = torch.tensor([0, 255], dtype=torch.uint8).repeat(preprocess.channels, 1)[None, :, None]
        values = preprocess.normalised(extremes)
        assert torch.allclose(preprocess.space.colour("black", values), values[0, :, :, :1])
        assert torch.allclose(preprocess.space.colour("white", values), values[0, :, :, 1:])
        assert preprocess.space.colour("mean", values).unique().tolist() == [0]


def test_without_a_mean_the_data_is_taken_to_be_grey() -> None:
    assert parse_preprocess("size=8").space.mean == (0.5, 0.5, 0.5)
    assert parse_preprocess("size=8,mean=0,std=0.25").space.mean == (2.0,)


def test_what_texts_mean() -> None:
    imagenet = Preprocess((224, 224), (256,), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert parse_preprocess("imagenet") == imagenet
    assert parse_preprocess(" imagenet , size = 384 , interpolation = bicubic") == Preprocess(
        (384, 384), (384,), imagenet.mean, imagenet.std, "bicubic"
    )
    assert parse_preprocess("unit,size=64x48") == Preprocess((64, 48), (64, 48), **UNIT)
    assert parse_preprocess("size=64") == parse_preprocess("resize=64") == Preprocess((64, 64), (64,), **UNIT)
    assert parse_preprocess("crop=28,std=0.5") == Preprocess((28, 28), None, (0.0,), (0.5,))
    assert "unit" in PRESETS


@given(
    st.tuples(st.integers(1, 500), st.integers(1, 500)),
    st.sampled_from([None, 1, 2]),
    st.integers(0, 40),
    st.lists(st.tuples(st.floats(0, 1), st.floats(1e-6, 1)), min_size=3, max_size=3),
    st.sampled_from([1, 3]),
    st.sampled_from(INTERPOLATIONS),
)
@settings(max_examples=50, deadline=None)
def test_text_reads_back(crop, sides, more, numbers, channels, interpolation) -> None:
    resize = None if sides is None else (max(crop) + more,) * sides
    mean, std = zip(*numbers[:channels], strict=True)
    preprocess = Preprocess(crop, resize, mean, std, interpolation)
    assert parse_preprocess(preprocess.text) == preprocess


def test_text_is_one_plain_line() -> None:
    assert parse_preprocess("imagenet").text == (
        "resize=256,crop=224x224,mean=0.485/0.456/0.406,std=0.229/0.224/0.225,interpolation=bilinear"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imagnet", "no preprocessing is called 'imagnet'; did you mean imagenet?; " + WRITE_OUT),
        ("", "no preprocessing is called ''; known: imagenet, unit; " + WRITE_OUT),
        ("unit", "preprocessing 'unit' names no size; expected size, crop or resize, such as size=224"),
        ("size=64,means=0.5", "no preprocessing key is called 'means'; did you mean mean?; in 'size=64,means=0.5'"),
        (
            "size=64,unit",
            "no preprocessing key is called 'unit'; known: crop, interpolation, mean, resize, size, std; in 'size=64,unit'",
        ),
        ("size=big", "resize=big; expected 1 to 2 numbers, such as 224 or 224x320"),
        ("crop=1x2x3", "crop=1x2x3; expected 1 to 2 numbers, such as 224 or 224x320"),
        ("crop=", "crop=; expected 1 to 2 numbers, such as 224 or 224x320"),
        ("size=8,mean=0.5/x/0.5", "mean=0.5/x/0.5; expected 1 to 3 numbers, such as 0.5 or 0.485/0.456/0.406"),
        (
            "size=8,mean=0.5/0.5",
            "mean has 2 numbers and std 2; expected one each for grey pictures or three each for colour",
        ),
        (
            "imagenet,mean=0.5",
            "mean has 1 numbers and std 3; expected one each for grey pictures or three each for colour",
        ),
        ("size=8,mean=123.7,std=58.4", "mean 123.7 and std 58.4; " + BY_255),
        ("size=8,mean=nan", "mean nan and std 1.0; " + BY_255),
        ("size=8,std=0", "mean 0.0 and std 0.0; " + BY_255),
        ("size=0", "a side of 0 pixels; expected 1 to 16384; mend crop or resize"),
        ("size=99999", "a side of 99999 pixels; expected 1 to 16384; mend crop or resize"),
        ("resize=200,crop=224x100", "a crop of 224x100 is larger than pictures resized to 200; " + LARGER),
        ("resize=300x200,crop=224", "a crop of 224x224 is larger than pictures resized to 300x200; " + LARGER),
        ("size=8,interpolation=cubic", "no interpolation is called 'cubic'; did you mean bicubic?"),
    ],
)
def test_unfit_texts_are_refused(text: str, message: str) -> None:
    with pytest.raises(CardgenError) as caught:
        parse_preprocess(text)
    assert str(caught.value) == message


def test_a_hair_of_a_picture_is_refused() -> None:
    with pytest.raises(CardgenError) as caught:
        parse_preprocess("size=224").image(Image.new("L", (60_000, 1)))
    assert str(caught.value) == (
        "a picture of 1 × 60000 pixels would become 224 × 13440000; expected at most 100000000 pixels; "
        "leave it out, or resize both sides (resize=HxW)"
    )
    assert parse_preprocess("size=224x224").image(Image.new("L", (60_000, 1))).shape == (3, 224, 224)
