"""What black, white and the mean are after normalisation, and what stands for removed pixels."""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d

from cardgen.errors import CardgenError
from cardgen.space import BLUR_KERNEL, BLUR_SIGMA, Space, gaussian_blur, substrate
from cardgen.study import Subject

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LIKE = torch.zeros(2, 3, 12, 12)


def normalised(image):
    return (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("black", torch.zeros(3)),
        ("white", torch.ones(3)),
        ("grey", torch.full((3,), 0.5)),
        ("mean", torch.tensor(MEAN)),
    ],
)
def test_colours_are_those_of_the_normalised_image(name, value):
    expected = normalised(value[:, None, None])
    torch.testing.assert_close(Space.normalised(MEAN, STD).colour(name, LIKE), expected, rtol=0, atol=1e-6)


def test_zero_is_zero_in_the_model_s_own_units():
    assert torch.equal(Space((-2.0,), (3.0,)).colour("zero", LIKE), torch.zeros(3, 1, 1))


def test_the_default_is_an_image_from_0_to_1_with_a_grey_mean():
    space = Space()
    assert [float(space.colour(name, LIKE)[0]) for name in ("black", "white", "grey", "mean")] == [0, 1, 0.5, 0.5]
    assert torch.equal(space.range(LIKE), torch.ones(3, 1, 1))


def test_one_value_stands_for_all_channels_and_other_counts_are_refused():
    assert Space((-1.0,)).colour("black", LIKE).flatten().tolist() == [-1, -1, -1]
    with pytest.raises(CardgenError, match=r"the space has 2 channels; expected 1 or 3, as the inputs have"):
        Space((0.0, 0.0)).colour("black", LIKE)


def test_an_unknown_substrate_is_refused_with_all_that_there_are():
    with pytest.raises(CardgenError) as caught:
        substrate("pink", LIKE, Space())
    assert str(caught.value) == ("no substrate is called 'pink'; expected one of black, white, grey, mean, zero, blur")


def test_inputs_that_leave_the_space_are_refused_and_rounding_is_not():
    Space().check(torch.full((1, 1, 2, 2), 1.005))
    with pytest.raises(CardgenError, match=r"inputs reach from 0 to 255; expected values between \(0\) and \(1\)"):
        Space().check(torch.tensor([0.0, 255.0]).view(1, 1, 1, 2))


def test_the_blur_is_a_normalised_gaussian_mirrored_at_the_border():
    images = torch.rand(2, 3, 15, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    taps = np.exp(-((np.arange(BLUR_KERNEL) - BLUR_KERNEL // 2) ** 2) / (2 * BLUR_SIGMA**2))
    expected = images.numpy()
    for axis in (2, 3):
        expected = convolve1d(expected, taps / taps.sum(), axis=axis, mode="mirror")
    np.testing.assert_allclose(substrate("blur", images, Space()).numpy(), expected, atol=1e-12)


def test_a_constant_image_stays_as_it_is_when_blurred():
    image = torch.full((1, 3, 12, 12), 0.3)
    torch.testing.assert_close(gaussian_blur(image), image)


def test_an_image_too_small_to_mirror_is_refused():
    with pytest.raises(CardgenError, match=r"images of 5 × 12 pixels are too small to blur"):
        gaussian_blur(torch.rand(1, 1, 5, 12))


def test_colours_follow_device_and_dtype():
    assert substrate("mean", LIKE.double(), Space()).dtype == torch.float64
    assert substrate("mean", LIKE, Space()).shape == LIKE.shape


class TestOfASubject:
    SPACE = Space((-1.0, 0.0, -2.0), (3.0, 1.0, 2.0), (0.0, 0.0, 0.0))

    def subject(self, rows=(0, 1, 2), **options):
        from small_models import tiny_subject

        small = tiny_subject(3).take(list(rows))
        ids = tuple("abc"[i] for i in rows)
        return Subject(small.model, small.inputs, small.targets, ids, **({"space": self.SPACE} | options))

    def test_random_fills_the_range_of_each_channel(self):
        found = self.subject().substrate("random", 3)
        assert found.shape == (3, 3, 12, 10)
        for channel, (low, high) in enumerate(zip(self.SPACE.low, self.SPACE.high, strict=True)):
            values = found[:, channel]
            assert low <= float(values.min()) < low + 0.05 * (high - low)
            assert high - 0.05 * (high - low) < float(values.max()) < high
            assert float(values.mean()) == pytest.approx((low + high) / 2, abs=0.06 * (high - low))

    def test_random_is_the_sample_s_own(self):
        whole = self.subject().substrate("random", 3)
        assert torch.equal(self.subject((2,)).substrate("random", 1)[0], whole[2])
        assert not torch.equal(whole[0], whole[1])
        assert not torch.equal(self.subject(seed=1).substrate("random", 3)[0], whole[0])

    def test_names_of_one_colour_share_their_work(self):
        one, other = self.subject(), self.subject(space=Space())
        assert [one.same_colour(name) for name in ("mean", "zero", "black", "grey")] == [
            "mean",
            "mean",
            "black",
            "grey",
        ]
        assert [other.same_colour(name) for name in ("mean", "zero", "black", "grey")] == [
            "mean",
            "zero",
            "zero",
            "mean",
        ]
        assert [one.same_colour(name) for name in ("blur", "random")] == ["blur", "random"]
        with pytest.raises(CardgenError, match="no substrate is called 'pink'"):
            one.same_colour("pink")
