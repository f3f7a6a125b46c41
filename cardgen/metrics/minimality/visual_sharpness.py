"""Visual sharpness: how sharp maps look to people; until somebody asked them, how much of a map is fine detail."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cardgen.methods import METHODS
from cardgen.metrics import metric
from cardgen.ratings import Ratings
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.similarity import is_flat
from cardgen.study import Study


@metric(
    key="visual_sharpness",
    title="Visual Sharpness",
    attribute="minimality",
    question="Do maps look sharp to people?",
    quantity="mean rating of sharpness by people, from 1 to 5",
    direction="higher",
    source=Source(paper="Smilkov et al. 2017", url="https://arxiv.org/abs/1706.03825", where="section 3"),
    rule="ratings",
    size="maps",
)
def visual_sharpness(study: Study) -> Scores:
    """Mean over raters of the rating, 1 to 5, that they gave a sample's map; higher is sharper.

    Ratings are people's, imported from a CSV file (docs/ratings.md). A sample is valid if two raters or more rated the method's map and
    the maps of all noise controls that anybody rated; the means are over these raters, so a strict one is strict with all. Parts
    `rated/<control>` [1, n]: the mean ratings of noise by the same raters. Reported: Krippendorff's α of all ratings of the file
    (interval level, since ratings are averaged), how many raters the method has, and the proxy.

    Without ratings of the method the scores are a proxy, which never gives a verdict: the share of spectral energy above half the
    Nyquist frequency, Σ |F|² over √(u² + v²) > ¼ / Σ |F|² over all (u, v) ≠ 0, F the map's discrete Fourier transform and u, v
    in cycles a pixel. Between 0 and 1; white noise has 1 − π/16 = 0.80, which is fine detail and no merit. Not valid for flat maps.

    Smilkov et al. 2017 judge the sharpness of maps by eye, without raters, scale or controls. Own maps are those of no method,
    so nobody has rated them.
    """
    proxy, flat = energy_share(study.maps()).cpu().numpy(), study.flat()
    share = float(proxy[~flat].mean()) if not flat.all() else None
    ratings, key = study.subject.ratings, study.method.entry.key if study.method else ""
    if ratings is None or key not in ratings.methods:
        detail = (
            "" if share is None else f"; of their spectral energy {share:.0%} lies above half the Nyquist frequency"
        )
        return Scores(
            proxy, ~flat, flat, reported={"spectral_share": share}, reason=f"Nobody has rated these maps{detail}."
        )
    noise = [other for other in METHODS if METHODS[other].entry.control == "noise" and other in ratings.methods - {key}]
    means, valid = _means(ratings, [key, *noise], study.subject.ids[: study.n])
    reported = {"alpha": ratings.alpha, "raters": ratings.raters(key), "spectral_share": share}
    reason = "" if noise else "Rated, but no noise beside it: described, not judged."
    parts = {f"rated/{other}": row[None] for other, row in zip(noise, means[1:], strict=True)}
    return Scores(means[0], valid, flat, parts, reported, reason=reason)


def _means(
    ratings: Ratings, methods: list[str], images: Sequence[str]
) -> tuple[Float[np.ndarray, "methods n"], np.ndarray]:
    """Mean ratings by method and image, 0 where too few rated, and where not so."""
    rows = [ratings.means(methods, image) for image in images]
    valid = np.array([row is not None for row in rows])
    return np.array([row or [0.0] * len(methods) for row in rows]).T, valid


def energy_share(maps: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Share of the spectral energy, the mean left out, above half the Nyquist frequency; 0 for constant maps.

    >>> energy_share(torch.tensor([[[0.0, 1, 0, 1]], [[0.0, 0, 1, 1]]])).tolist()  # periods of two and of four pixels
    [1.0, 0.0]
    """
    h, w = maps.shape[1:]
    values = maps.double()
    values = values / values.abs().amax((1, 2), keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    energy = torch.fft.fft2(values - values.mean((1, 2), keepdim=True)).abs() ** 2
    rows, columns = (
        (side * torch.fft.fftfreq(side, dtype=torch.float64, device=maps.device)).round() for side in (h, w)
    )
    # in whole numbers, so that a frequency of exactly ¼ is never taken for more
    fine = 16 * ((rows[:, None] * w) ** 2 + (columns * h) ** 2) > (h * w) ** 2
    total = energy.sum((1, 2))
    flat = is_flat(maps)
    return torch.where(flat, 0.0, (energy * fine).sum((1, 2)) / torch.where(flat, 1.0, total))
