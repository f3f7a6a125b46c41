"""The example picture: its limits, its colours, and the same bytes every time."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cardgen.errors import CardgenError
from cardgen.picture import GUTTER, _check, _overlays, alt_text, colour_scale, example_picture

DARKEST, PALEST = (12, 9, 33), (253, 251, 212)
BLUE, WHITE, RED = (14, 54, 133), (255, 255, 255), (118, 7, 17)
SIDE, ENLARGED = 64, 3  # four samples of 64 px fit three times as large


def samples(k=4, side=SIDE, width=None):
    """Photographs of pure noise, the hardest to compress, with maps of noise."""
    draws = np.random.default_rng(5)
    shape = (k, side, width or side)
    images = draws.integers(0, 256, (k, 3, *shape[1:]), dtype=np.uint8)
    return images, draws.normal(size=shape).astype(np.float32)


def opened(png):
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return image


def tile(png, row, column, side=SIDE * ENLARGED):
    """One tile of a picture of square samples, as RGB."""
    top, left = (GUTTER + place * (side + GUTTER) for place in (row, column))
    return np.asarray(opened(png).convert("RGB"))[top : top + side, left : left + side]


def colours(array):
    return {tuple(int(value) for value in colour) for colour in array.reshape(-1, 3)}


class TestLimits:
    @pytest.mark.parametrize("signed", [True, False])
    @pytest.mark.parametrize(("k", "side"), [(4, 64), (4, 224), (1, 224), (8, 224), (3, 32), (37, 64), (5, 8)])
    def test_noise_stays_small(self, k, side, signed):
        png = example_picture(*samples(k, side), signed)
        image = opened(png)
        assert image.mode == "P"
        assert len(png) <= 80_000
        assert max(image.size) <= 900

    def test_small_samples_are_enlarged_by_a_whole_factor(self):
        image = opened(example_picture(*samples(), True))
        assert image.size == (4 * (SIDE * ENLARGED + GUTTER) + GUTTER, 3 * (SIDE * ENLARGED + GUTTER) + GUTTER)
        pixels = tile(example_picture(*samples(), True), 1, 2)
        assert np.array_equal(pixels, pixels[1::3, 1::3].repeat(3, 0).repeat(3, 1))

    def test_light_pictures_use_the_room_there_is(self):
        images = np.full((4, 3, 224, 224), 90, dtype=np.uint8)
        assert opened(example_picture(images, np.zeros((4, 224, 224)), True)).size[0] > 880

    @pytest.mark.parametrize(("side", "width"), [(40, 120), (300, 90), (1, 128)])
    def test_samples_need_not_be_square(self, side, width):
        image = opened(example_picture(*samples(2, side, width), True))
        assert (image.width > image.height) == (2 * width > 3 * side)
        assert max(image.size) <= 900

    def test_grey_samples_are_drawn_as_those_of_three_equal_channels(self):
        images, maps = samples()
        grey = images[:, :1]
        assert example_picture(grey, maps, True) == example_picture(grey.repeat(3, 1), maps, True)

    def test_the_palette_holds_all_colours(self):
        for signed in (True, False):
            _, palette = _overlays(np.zeros((1, 1, 1)), np.zeros((1, 1, 1)), signed)
            assert 2 + 41 + 84 + len(palette) <= 256

    @pytest.mark.parametrize("signed", [True, False])
    def test_the_same_bytes_every_time(self, signed):
        images, maps = samples(side=100)
        first = example_picture(images, maps, signed)
        assert example_picture(np.asfortranarray(images), maps.astype(np.float64), signed) == first
        assert example_picture(images, -maps, signed) != first


class TestColours:
    def test_gutters_are_white(self):
        pixels = np.asarray(opened(example_picture(*samples(), False)).convert("RGB"))
        assert colours(pixels[: GUTTER - 1]) == {WHITE}
        assert colours(pixels[:, -GUTTER + 1 :]) == {WHITE}
        between = GUTTER + SIDE * ENLARGED
        assert colours(pixels[between + 1 : between + GUTTER - 1]) == {WHITE}

    def test_first_row_is_the_photograph(self):
        images, maps = samples(1)
        images[:] = np.array([200, 30, 90], dtype=np.uint8)[:, None, None]
        png = example_picture(images, maps, True)
        assert colours(tile(png, 0, 0, side=SIDE * 4)) == {(200, 30, 90)}

    def test_zero_is_white_when_signed(self):
        images, maps = samples()
        maps[0] = 0
        maps[1, :, :32] = 0
        png = example_picture(images, maps, True)
        assert colours(tile(png, 1, 0)) == {WHITE}
        assert colours(tile(png, 1, 1)[:, : 32 * ENLARGED]) == {WHITE}
        assert len(colours(tile(png, 1, 2))) > 20

    @pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -3.0, 1e30, 1e-30])
    @pytest.mark.parametrize("side", [64, 224])
    def test_a_flat_unsigned_map_is_the_darkest_colour(self, value, side):
        images = np.zeros((4, 3, side, side), dtype=np.uint8)
        image = opened(example_picture(images, np.full((4, side, side), value), False)).convert("RGB")
        assert image.getpixel((image.width // 8, image.height // 2)) == DARKEST

    def test_differences_of_rounding_are_not_drawn(self):
        images, maps = samples()
        png = example_picture(images, 1 + 1e-7 * maps.astype(np.float64), False)
        assert colours(tile(png, 1, 0)) == {DARKEST}

    def test_planted_pixels_signed(self):
        images, maps = samples()
        images[:], maps[:] = 128, 0
        maps[2, 10, 20], maps[2, 40, 50] = 5, -5
        png = example_picture(images, maps, True)
        assert colours(tile(png, 1, 2)[30:33, 60:63]) == {RED}
        assert colours(tile(png, 1, 2)[120:123, 150:153]) == {BLUE}
        assert colours(tile(png, 1, 2)) == {RED, BLUE, WHITE}
        red, blue, ground = (tuple(map(int, tile(png, 2, 2)[at])) for at in ((31, 61), (121, 151), (0, 0)))
        assert len(set(ground)) == 1  # the photograph, greyed
        assert max(abs(a - b) for a, b in zip(red, RED, strict=True)) <= 25
        assert max(abs(a - b) for a, b in zip(blue, BLUE, strict=True)) <= 25
        assert colours(tile(png, 1, 3)) == {WHITE}

    def test_planted_pixel_unsigned(self):
        images, maps = samples()
        maps[:] = 7
        maps[0, 10, 20], maps[1, 10, 20] = 8, 6
        png = example_picture(images, maps, False)
        assert colours(tile(png, 1, 0)[30:33, 60:63]) == {PALEST}
        assert colours(tile(png, 1, 0)) == {PALEST, DARKEST}
        assert colours(tile(png, 1, 1)[30:33, 60:63]) == {DARKEST}
        assert colours(tile(png, 1, 1)) == {PALEST, DARKEST}

    def test_each_map_has_its_own_symmetric_scale(self):
        images, maps = samples()
        maps[1] = maps[0] * 1e6
        maps[2] = -maps[0]
        png = example_picture(images, maps, True)
        assert np.array_equal(tile(png, 1, 0), tile(png, 1, 1))
        scale = colour_scale(True, 41)
        place = {tuple(map(int, colour)): step for step, colour in enumerate(scale)}
        steps, mirrored = (
            np.array([place[tuple(map(int, c))] for c in tile(png, 1, j).reshape(-1, 3)]) for j in (0, 2)
        )
        assert np.abs(steps + mirrored - 40).max() == 0

    def test_outliers_beyond_the_percentile_do_not_fade_the_rest(self):
        images, maps = samples()
        maps = np.abs(maps)
        maps[0, 0, :15] = 1e4  # 0.37 % of the pixels
        assert len(colours(tile(example_picture(images, maps, False), 1, 0))) > 30

    @pytest.mark.parametrize("scale", [1e-300, 1e300])
    def test_extreme_scales_change_nothing(self, scale):
        images, maps = samples()
        maps = np.round(maps.astype(np.float64), 1)
        assert example_picture(images, maps * scale, True) == example_picture(images, maps, True)


def lightness(scale):
    """CIE L* of sRGB colours."""
    linear = np.where(scale / 255 <= 0.04045, scale / 255 / 12.92, ((scale / 255 + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    return np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27)


class TestScales:
    def test_the_sequential_scale_gets_lighter_evenly(self):
        steps = np.diff(lightness(colour_scale(False, 41)))
        assert steps.min() > 0
        assert steps.max() < 2 * steps.mean()
        assert lightness(colour_scale(False, 2)) == pytest.approx([3, 98], abs=2)

    def test_the_diverging_scale_is_white_at_zero_and_as_dark_on_both_sides(self):
        light = lightness(colour_scale(True, 41))
        assert tuple(colour_scale(True, 41)[20]) == WHITE
        assert np.diff(light[:21]).min() > 0
        assert np.abs(light - light[::-1]).max() < 6


class TestAltText:
    def test_signed(self):
        assert alt_text("Integrated Gradients", 4, True) == (
            "4 samples in three rows: the images, their Integrated Gradients maps, the maps over the greyed images. "
            "Red marks positive values, blue negative ones, and white zero; each map has its own scale."
        )

    def test_one_sample_unsigned(self):
        assert alt_text("Grad-CAM", 1, False) == (
            "One sample in three rows: the image, its Grad-CAM map, the map over the greyed image. Colours run from "
            "dark purple (lowest) through red and orange to pale yellow (highest); each map has its own scale."
        )


class TestErrors:
    def test_sizes_that_differ(self):
        images, maps = samples()
        with pytest.raises(
            CardgenError, match=r"expected maps of \(4, 64, 64\), got \(4, 32, 64\); give one map a sample"
        ):
            _check(images, maps[:, ::2])  # the check itself: it stands where shapes in signatures are not looked at

    def test_maps_that_are_not_finite(self):
        images, maps = samples()
        maps[3, 2, 1] = np.nan
        with pytest.raises(CardgenError, match="a map holds NaN or infinity; expected finite values"):
            example_picture(images, maps, True)

    @pytest.mark.parametrize("k", [0, 60])
    def test_no_sample_and_too_many(self, k):
        with pytest.raises(CardgenError, match=f"cannot hold {k} samples; expected 1 to 37, got {k}"):
            example_picture(*samples(k), True)


def test_torch_is_not_needed():
    code = "import sys; sys.modules['torch'] = None; import cardgen.picture"
    subprocess.run([sys.executable, "-c", code], check=True)
