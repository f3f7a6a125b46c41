"""How alike are two saliency maps of one sample: rank and linear correlation, SSIM, HOG.

Every function takes two batches of maps and gives one float64 number a sample, larger for maps that are more alike
and 1 for equal ones. All is computed in float64 on the maps' device, every normalisation is per map, and a sample's
number depends on that sample's two maps alone.

Flat maps (`is_flat`) correlate with nothing and still get a number, never NaN: exactly one of the two flat gives 0,
both flat give 1. A pair of differing shapes, and maps with NaN or infinities, raise `CardgenError`.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cardgen.errors import CardgenError

FLAT = 1e-12  # a range below this share of the largest magnitude is rounding, not a pattern
SSIM_SIGMA, SSIM_RADIUS, SSIM_C1, SSIM_C2 = 1.5, 5, 0.01**2, 0.03**2
HOG_ORIENTATIONS, HOG_CELLS, HOG_BLOCK, HOG_CLIP, HOG_EPS = 9, 4, 3, 0.2, 1e-5


def is_flat(maps: Float[Tensor, "n *shape"]) -> Bool[Tensor, " n"]:
    """Whether a map holds one value only: max − min ≤ 1e-12 · max|value|, so constant up to rounding.

    >>> is_flat(torch.tensor([[[0.0, 0.0]], [[3.0, 3.0]], [[3.0, 3.1]]])).tolist()
    [True, True, False]
    """
    scaled = _scaled(maps.flatten(1))
    return scaled.amax(1) - scaled.amin(1) <= FLAT


def pearson(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Pearson's correlation over the last dimension, Σ(a−ā)(b−b̄) / √(Σ(a−ā)² · Σ(b−b̄)²), in −1…1. Flat rows: see above.

    >>> round(pearson(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 2.0]])).item(), 12)
    0.5
    """
    _check(a, b)
    return _flat_rule(_pearson(a, b), is_flat(a), is_flat(b))


def average_ranks(values: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Ranks 1…k of each row in ascending order, float64; equal values share the mean of the ranks they fill.

    >>> average_ranks(torch.tensor([[0.3, 0.1, 0.3, 0.7]])).tolist()
    [[2.5, 1.0, 2.5, 4.0]]
    """
    ordered, order = values.sort(dim=1)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ends = starts.roll(-1, dims=1)  # the first column starts a group, so the last one ends one
    position = torch.arange(values.shape[1], device=values.device).expand_as(order)
    last = values.shape[1] - 1
    first_of_group = torch.where(starts, position, 0).cummax(dim=1).values
    last_of_group = torch.where(ends, position, last).flip(1).cummin(dim=1).values.flip(1)
    ranks = (first_of_group + last_of_group).double() / 2 + 1
    return torch.empty_like(ranks).scatter_(1, order, ranks)


def spearman(a: Float[Tensor, "n h w"], b: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Spearman's rank correlation over the h·w pixels: Pearson's of the average ranks, in −1…1. Adebayo et al. 2018.

    >>> spearman(torch.tensor([[[1.0, 2.0, 9.0]]]), torch.tensor([[[0.0, 5.0, 6.0]]])).tolist()
    [1.0]
    """
    _check(a, b)
    ranks = _pearson(average_ranks(a.flatten(1)), average_ranks(b.flatten(1)))
    return _flat_rule(ranks, is_flat(a), is_flat(b))


def relative_difference(a: Float[Tensor, "n *shape"], b: Float[Tensor, "n *shape"]) -> Float[Tensor, " n"]:
    """‖a − b‖₂ / ‖a‖₂ over all values of a sample, float64. Where a is zero: 0 if b is too, else 1.

    >>> relative_difference(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[3.0, 3.0], [0.0, 2.0]])).tolist()
    [0.2, 1.0]
    """
    _check(a, b)
    one, other = a.flatten(1).double(), b.flatten(1).double()
    norm, moved = one.norm(dim=1), (one - other).norm(dim=1)
    return torch.where(norm > 0, moved / norm.clamp_min(torch.finfo(torch.float64).tiny), (moved > 0).double())


def spearman_abs(a: Float[Tensor, "n h w"], b: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Spearman's rank correlation of |a| and |b|: which pixels matter, whatever their sign. Adebayo et al. 2018.

    Flat means that the magnitudes are: a map of +1 and −1 is flat here.
    """
    return spearman(a.abs(), b.abs())


def ssim(a: Float[Tensor, "n h w"], b: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Mean structural similarity of the min–max normalised maps, in −1…1. Wang et al. 2004.

    Per pixel (2·μₐμ_b + C₁)(2·σₐ_b + C₂) / ((μₐ² + μ_b² + C₁)(σₐ² + σ_b² + C₂)), with means and population
    covariances under an 11 × 11 Gaussian window of σ = 1.5, data range 1, C₁ = 0.01², C₂ = 0.03²; the mean over the
    pixels whose window lies inside the map; for maps, Adebayo et al. 2018. Where a side is below 11 px: the largest
    odd window that fits, its weights again summing to 1. Below 3 px: CardgenError.
    """
    _check(a, b)
    radius = min(SSIM_RADIUS, (min(a.shape[1:]) - 1) // 2)
    if radius < 1:
        raise CardgenError(
            f"SSIM needs a window of 3 × 3 or more; expected maps of at least 3 × 3 px, got {_size(a)}; "
            "compare such maps by rank"
        )
    x, y = _minmax(a), _minmax(b)
    mean_x, mean_y, square_x, square_y, product = (_window_mean(m, radius) for m in (x, y, x * x, y * y, x * y))
    covariance, variances = product - mean_x * mean_y, square_x - mean_x**2 + square_y - mean_y**2
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (variances + SSIM_C2)
    return _flat_rule((luminance * structure).mean(dim=(1, 2)), is_flat(a), is_flat(b))


def hog_similarity(a: Float[Tensor, "n h w"], b: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Pearson's correlation of histograms of oriented gradients (`hog`) of the min–max normalised maps, in −1…1.

    Dalal & Triggs 2005; for maps, Adebayo et al. 2018. A map without gradients counts as flat: a constant one, or one
    with a period of 2 px, which central differences do not see. A side below 4 px: CardgenError.
    """
    _check(a, b)
    return pearson(hog(_minmax(a)), hog(_minmax(b)))


def hog(maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n f"]:
    """Histograms of oriented gradients of maps as they are (normalise them first), float64. Dalal & Triggs 2005.

    Central differences, 0 at the border; nine unsigned orientations of 20°, hard bins; cells of (h//4) × (w//4) px,
    what is left over at the right and at the bottom ignored; all blocks of 3 × 3 cells, each L2-Hys normalised (L2,
    cut at 0.2, L2). Order of features: block row, block column, cell row, cell column, orientation. A side below 4 px:
    CardgenError.
    """
    n, (high, wide) = len(maps), (side // HOG_CELLS for side in maps.shape[1:])
    if not (high and wide):
        raise CardgenError(
            f"HOG needs cells of a quarter of each side; expected maps of 4 × 4 px or more, got {_size(maps)}; "
            "compare such maps by rank"
        )
    maps = maps.double()
    down, across = torch.zeros_like(maps), torch.zeros_like(maps)
    down[:, 1:-1] = maps[:, 2:] - maps[:, :-2]
    across[:, :, 1:-1] = maps[:, :, 2:] - maps[:, :, :-2]
    magnitude = torch.hypot(down, across)
    edges = torch.arange(1, HOG_ORIENTATIONS, device=maps.device).double() * (180 / HOG_ORIENTATIONS)
    bins = torch.bucketize(torch.rad2deg(torch.atan2(down, across)).remainder(180), edges, right=True)
    rows, columns = maps.shape[1] // high, maps.shape[2] // wide
    inside = (slice(None), slice(rows * high), slice(columns * wide))
    shape = (n, rows, high, columns, wide)
    of_bin = [torch.where(bins == i, magnitude, 0)[inside].reshape(shape).mean((2, 4)) for i in range(HOG_ORIENTATIONS)]
    cells = torch.stack(of_bin, dim=-1)
    blocks = cells.unfold(1, HOG_BLOCK, 1).unfold(2, HOG_BLOCK, 1).movedim(3, 5).flatten(3)
    return _l2(_l2(blocks).clamp(max=HOG_CLIP)).flatten(1)


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise CardgenError(
            f"maps differ in shape; expected two of one shape, got {tuple(a.shape)} and {tuple(b.shape)}; "
            "bring both to the input's resolution"
        )
    if not bool(a.isfinite().all() & b.isfinite().all()):
        raise CardgenError("a map holds NaN or infinity; expected finite values; leave such samples out, with a reason")


def _size(maps: Tensor) -> str:
    return f"{maps.shape[1]} × {maps.shape[2]}"


def _scaled(rows: Tensor) -> Tensor:
    """Each row over its largest magnitude, in float64, so that no later square or difference can overflow or vanish."""
    rows = rows.double()
    largest = rows.abs().amax(1, keepdim=True)
    return rows / torch.where(largest > 0, largest, 1)


def _flat_rule(score: Tensor, flat_a: Tensor, flat_b: Tensor) -> Tensor:
    return torch.where(flat_a | flat_b, (flat_a & flat_b).double(), score)


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    x, y = (_scaled(scaled - scaled.mean(1, keepdim=True)) for scaled in (_scaled(a), _scaled(b)))
    norm = ((x * x).sum(1) * (y * y).sum(1)).sqrt()
    return ((x * y).sum(1) / norm.clamp(min=torch.finfo(torch.float64).tiny)).clamp(-1, 1)


def _minmax(maps: Tensor) -> Tensor:
    """Each map brought to [0, 1] by its own minimum and maximum; a constant one to 0."""
    scaled = _scaled(maps.flatten(1))
    low, high = scaled.amin(1, keepdim=True), scaled.amax(1, keepdim=True)
    return ((scaled - low) / torch.where(high > low, high - low, 1)).reshape(maps.shape)


def _window_mean(maps: Tensor, radius: int) -> Tensor:
    """Gaussian-weighted mean around every pixel whose (2·radius + 1)² window lies inside the map."""
    offsets = torch.arange(-radius, radius + 1, device=maps.device).double()
    weights = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights = weights / weights.sum()
    for dim in (1, 2):
        shifts = maps.unfold(dim, 2 * radius + 1, 1).unbind(-1)
        maps = shifts[0] * weights[0]
        for shift, weight in zip(shifts[1:], weights[1:], strict=True):
            maps = torch.addcmul(maps, shift, weight)
    return maps


def _l2(blocks: Tensor) -> Tensor:
    return blocks / (blocks.square().sum(-1, keepdim=True) + HOG_EPS**2).sqrt()
