"""Similarities against scipy and scikit-image, against figures worked out by hand, and one sample at a time."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata, spearmanr
from skimage.feature import hog as skimage_hog
from skimage.metrics import structural_similarity

from cardgen import similarity
from cardgen.errors import CardgenError
from cardgen.similarity import (
    average_ranks,
    hog,
    hog_similarity,
    is_flat,
    pearson,
    relative_difference,
    spearman,
    spearman_abs,
    ssim,
)

SIMILARITIES = [spearman, spearman_abs, ssim, hog_similarity]
SHAPES = [(64, 64), (37, 50), (14, 15)]
KINDS = ["random", "relu", "smooth"]


def pair(kind, shape, n=6):
    """Two batches of related maps with scales that differ from sample to sample: signed, tied at zero, or smooth."""
    draws = np.random.default_rng(7)
    a, noise = draws.normal(size=(2, n, *shape))
    b = a + noise
    if kind == "relu":
        a, b = np.maximum(a, 0), np.round(np.maximum(b, 0), 1)
    if kind == "smooth":
        a, b = (gaussian_filter(maps, (0, 4, 4)) for maps in (a, b))
    scale = 10.0 ** np.arange(n)[:, None, None]
    return torch.from_numpy(a / scale).float(), torch.from_numpy(b * scale).float()


def minmax(array):
    array = array.astype(np.float64)
    return (array - array.min()) / (array.max() - array.min())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
class TestReferences:
    def test_ranks(self, kind, shape):
        _, b = pair(kind, shape)
        expected = np.stack([rankdata(row) for row in b.flatten(1).numpy()])
        assert np.array_equal(average_ranks(b.flatten(1)).numpy(), expected)

    def test_spearman(self, kind, shape):
        a, b = pair(kind, shape)
        expected = [spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a.numpy(), b.numpy(), strict=True)]
        assert spearman(a, b).numpy() == pytest.approx(expected, abs=1e-12)

    def test_spearman_abs(self, kind, shape):
        a, b = pair(kind, shape)
        pairs = zip(np.abs(a.numpy()), np.abs(b.numpy()), strict=True)
        expected = [spearmanr(x.ravel(), y.ravel()).statistic for x, y in pairs]
        assert spearman_abs(a, b).numpy() == pytest.approx(expected, abs=1e-12)

    def test_ssim(self, kind, shape):
        a, b = pair(kind, shape)
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
        pairs = zip(a.numpy(), b.numpy(), strict=True)
        expected = [structural_similarity(minmax(x), minmax(y), **options) for x, y in pairs]
        assert ssim(a, b).numpy() == pytest.approx(expected, abs=1e-10)

    def test_hog(self, kind, shape):
        a, b = pair(kind, shape)
        cells = (shape[0] // 4, shape[1] // 4)
        features = np.stack(
            [[skimage_hog(minmax(x), 9, cells, (3, 3), block_norm="L2-Hys") for x in maps.numpy()] for maps in (a, b)]
        )
        expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(*features, strict=True)]
        assert hog_similarity(a, b).numpy() == pytest.approx(expected, abs=1e-6)  # the reference adds in float32
        ours = hog(torch.stack([torch.from_numpy(minmax(x)) for x in a.numpy()])).numpy()
        assert ours == pytest.approx(features[0], abs=1e-6)

    @pytest.mark.parametrize("similarity", SIMILARITIES)
    def test_sample_alone_in_its_batch(self, kind, shape, similarity):
        a, b = pair(kind, shape)
        alone = torch.cat([similarity(a[i : i + 1], b[i : i + 1]) for i in range(len(a))])
        assert similarity(a, b).numpy() == pytest.approx(alone.numpy(), abs=1e-12)


class TestByHand:
    def test_ranks_share_their_mean_when_tied(self):
        values = torch.tensor([[5.0, 5.0, 5.0, 5.0], [0.0, -0.0, -1.0, 2.0], [4.0, 3.0, 2.0, 1.0]])
        expected = [[2.5, 2.5, 2.5, 2.5], [2.5, 2.5, 1.0, 4.0], [4.0, 3.0, 2.0, 1.0]]
        assert average_ranks(values).tolist() == expected
        assert average_ranks(values).dtype == torch.float64

    def test_pearson(self):
        a = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
        b = torch.tensor([[30.0, 20.0, 10.0], [0.0, 0.0, 3.0]])
        assert pearson(a, b).numpy() == pytest.approx([-1, math.sqrt(3) / 2], abs=1e-15)

    def test_spearman_with_ties(self):
        # ranks 1.5 1.5 3 4 and 1 2 3 4: covariance 4.5, variances 4.5 and 5
        a, b = torch.tensor([[[0.0, 0.0], [1.0, 2.0]]]), torch.tensor([[[1.0, 2.0], [3.0, 40.0]]])
        assert spearman(a, b).item() == pytest.approx(4.5 / math.sqrt(4.5 * 5), abs=1e-15)

    def test_sign_counts_in_spearman_only(self):
        a = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
        assert spearman(a, -a).item() == -1
        assert spearman_abs(a, -a).item() == 1

    def test_ssim_of_one_3x3_window(self):
        # a spike in the middle (1) against the same spike on a ground of 0.5: one window, so one value
        a = torch.zeros(1, 3, 3)
        a[0, 1, 1] = 1
        b = torch.full((1, 3, 3), 0.5)
        b[0, 1, 1], b[0, 0, 0] = 1, 0
        side = math.exp(-1 / (2 * 1.5**2))
        middle, corner = 1 / (1 + 2 * side) ** 2, side**2 / (1 + 2 * side) ** 2
        mean_a, mean_b = middle, middle + 0.5 * (1 - middle - corner)
        var_a, var_b = middle - mean_a**2, middle + 0.25 * (1 - middle - corner) - mean_b**2
        top = (2 * mean_a * mean_b + 1e-4) * (2 * (middle - mean_a * mean_b) + 9e-4)
        expected = top / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
        assert ssim(a, b).item() == pytest.approx(expected, abs=1e-12)

    def test_hog_of_a_ramp_is_one_orientation(self):
        features = hog(torch.arange(8.0).expand(1, 8, 8)).reshape(2, 2, 9, 9)  # blocks, cells, bins
        assert features[..., 1:].abs().max() == 0
        assert features[..., 0].min() > 0

    def test_hog_tells_a_ramp_from_its_transpose_but_not_from_its_reverse(self):
        ramp = torch.arange(16.0).expand(1, 16, 16)
        assert hog_similarity(ramp, ramp.flip(2)).item() == pytest.approx(1, abs=1e-12)
        assert hog_similarity(ramp, ramp.mT).item() < 0

    @pytest.mark.parametrize("similarity", SIMILARITIES)
    def test_equal_maps_give_one(self, similarity):
        a, _ = pair("random", (16, 16))
        assert similarity(a, a * 3).numpy() == pytest.approx(np.ones(len(a)), abs=1e-12)


class TestRelativeDifference:
    def test_by_hand(self):
        # ‖(0, 1)‖ / ‖(3, 4)‖ = 1/5, whatever the scale; zero against zero 0, against anything else 1
        a = torch.tensor([[[3.0, 4.0]], [[3e38, 3e38]], [[3e-45, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]])
        b = torch.tensor([[[3.0, 3.0]], [[0.0, 3e38]], [[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 9.0]]])
        assert relative_difference(a, b).tolist() == pytest.approx([0.2, 0.5**0.5, 1, 0, 1])

    def test_it_is_of_the_first(self):
        a, b = torch.tensor([[1.0]]), torch.tensor([[4.0]])
        assert (relative_difference(a, b).item(), relative_difference(b, a).item()) == (3.0, 0.75)


class TestFlat:
    CONSTANTS = (0.0, 1.0, -2.5, 0.1, 1e30, 1e-30)

    def test_is_flat(self):
        flat = torch.stack([torch.full((4, 4), value) for value in self.CONSTANTS])
        assert is_flat(flat).all()
        flat[:, 2, 2] += 1e-3 * flat[:, 2, 2] + 1e-38
        assert not is_flat(flat).any()

    def test_rounding_is_flat_and_a_faint_pattern_is_not(self):
        maps = torch.full((3, 4, 4), 0.1, dtype=torch.float64)
        maps[0, 1, 1] += 1e-16
        maps[1, 1, 1] += 1e-14
        maps[2, 1, 1] += 1e-12
        assert is_flat(maps).tolist() == [True, True, False]

    @pytest.mark.parametrize("similarity", SIMILARITIES)
    @pytest.mark.parametrize("constant", CONSTANTS)
    def test_one_flat_is_zero_both_flat_are_one(self, similarity, constant):
        maps, _ = pair("random", (16, 16), n=3)
        flat = torch.full_like(maps, constant)
        mixed = torch.cat([maps[:1], flat[:1], flat[:1]])
        other = torch.cat([flat[:1], maps[:1], torch.ones(1, 16, 16)])
        assert similarity(mixed, other).tolist() == [0, 0, 1]

    def test_pearson_follows_the_rule(self):
        a, b = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]]), torch.tensor([[2.0, 2.0], [0.0, 1.0], [3.0, 3.0]])
        assert pearson(a, b).tolist() == [1, 0, 0]

    def test_magnitudes_can_be_flat_where_the_map_is_not(self):
        signs = torch.tensor([[[1.0, -1.0], [1.0, -1.0]]])
        assert spearman(signs, signs).item() == 1
        assert spearman_abs(signs, torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])).item() == 0

    def test_no_gradient_counts_as_flat_for_hog(self):
        board = (torch.arange(16)[:, None] + torch.arange(16)).remainder(2).float()[None]
        maps, _ = pair("random", (16, 16), n=1)
        assert hog_similarity(board, maps).item() == 0
        assert hog_similarity(board, torch.zeros_like(board)).item() == 1

    @pytest.mark.parametrize("similarity", SIMILARITIES)
    @pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
    def test_extreme_scales_change_nothing(self, similarity, scale):
        a, b = (maps.double() for maps in pair("random", (16, 16), n=2))
        assert similarity(a * scale, b).numpy() == pytest.approx(similarity(a, b).numpy(), abs=1e-9)

    @pytest.mark.parametrize("similarity", SIMILARITIES)
    def test_single_spikes_are_finite(self, similarity):
        a, b = torch.zeros(2, 16, 16), torch.zeros(2, 16, 16)
        a[0, 0, 0], a[1, 8, 8], b[0, 15, 15], b[1, 8, 8] = 1, -1, 1e-20, 1e20
        assert similarity(a, b).isfinite().all()


class TestErrors:
    @pytest.mark.parametrize("similarity", SIMILARITIES)
    def test_not_a_number_is_refused(self, similarity):
        maps, _ = pair("random", (16, 16), n=2)
        for value in (math.nan, math.inf):
            broken = maps.clone()
            broken[1, 3, 3] = value
            with pytest.raises(CardgenError, match="a map holds NaN or infinity; expected finite values"):
                similarity(maps, broken)

    def test_shapes_that_differ_are_refused(self):
        with pytest.raises(CardgenError, match=r"expected two of one shape, got \(2, 9\) and \(3, 9\)"):
            similarity._check(torch.ones(2, 9), torch.ones(3, 9))

    def test_maps_too_small_are_refused(self):
        with pytest.raises(
            CardgenError, match="expected maps of at least 3 × 3 px, got 2 × 9; compare such maps by rank"
        ):
            ssim(torch.ones(1, 2, 9), torch.ones(1, 2, 9))
        with pytest.raises(
            CardgenError, match="expected maps of 4 × 4 px or more, got 3 × 9; compare such maps by rank"
        ):
            hog_similarity(torch.ones(1, 3, 9), torch.ones(1, 3, 9))

    @pytest.mark.parametrize(("side", "radius"), [(3, 1), (4, 1), (8, 3), (10, 4), (11, 5), (12, 5)])
    def test_small_maps_take_the_largest_odd_window(self, monkeypatch, side, radius):
        seen = []
        original = similarity._window_mean
        monkeypatch.setattr(similarity, "_window_mean", lambda maps, r: seen.append(r) or original(maps, r))
        a, b = pair("random", (side, side), n=1)
        inside = (slice(radius, side - radius),) * 2
        x, y = minmax(a[0].numpy()), minmax(b[0].numpy())
        mean = lambda m: gaussian_filter(m, 1.5, radius=radius)[inside]  # noqa: E731
        cov = mean(x * y) - mean(x) * mean(y)
        var = mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2
        top = (2 * mean(x) * mean(y) + 1e-4) * (2 * cov + 9e-4)
        expected = (top / ((mean(x) ** 2 + mean(y) ** 2 + 1e-4) * (var + 9e-4))).mean()
        assert ssim(a, b).item() == pytest.approx(expected, abs=1e-12)
        assert set(seen) == {radius}


class TestMutations:
    """The comparisons above can fail: wrong results seen in the peers move the figures far beyond tolerance."""

    def test_normalising_over_the_batch(self, monkeypatch):
        a, b = pair("random", (64, 64))
        right = {name: getattr(similarity, name)(a, b) for name in ("ssim", "hog_similarity")}
        whole = lambda maps: ((maps - maps.min()) / (maps.max() - maps.min())).double()  # noqa: E731
        monkeypatch.setattr(similarity, "_minmax", whole)
        for name, expected in right.items():
            assert (getattr(similarity, name)(a, b) - expected).abs().max() > 0.01

    def test_a_data_range_of_two(self, monkeypatch):
        a, b = pair("smooth", (64, 64))
        right = ssim(a, b)
        monkeypatch.setattr(similarity, "SSIM_C1", 0.02**2)
        monkeypatch.setattr(similarity, "SSIM_C2", 0.06**2)
        assert (ssim(a, b) - right).abs().min() > 1e-3

    def test_ranks_by_position_where_values_are_tied(self, monkeypatch):
        a, b = pair("relu", (64, 64))
        right = spearman(a, b)
        monkeypatch.setattr(similarity, "average_ranks", lambda values: values.argsort(1).argsort(1).double())
        assert (spearman(a, b) - right).abs().min() > 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("kind", KINDS)
def test_on_the_gpu(similarity, kind):
    a, b = pair(kind, (64, 64))
    result = similarity(a.cuda(), b.cuda())
    assert result.is_cuda
    assert result.cpu().numpy() == pytest.approx(similarity(a, b).numpy(), abs=1e-9)
