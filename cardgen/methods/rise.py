"""RISE: the mean of random masks, each weighted by the class's probability under it."""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cardgen.draws import generator
from cardgen.forward import variant_probabilities
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.space import substrate

BLOCK = 512


@method(
    key="rise",
    title="RISE",
    source=Source(
        paper="Petsiuk et al. 2018", url="https://arxiv.org/abs/1806.07421", where="equation 6 and section 3.2"
    ),
    access="outputs",
    signed=False,
    random=True,
    ranges={
        "n_masks": (500, 2000, 4000),
        "grid": (4, 7, 14),
        "probability": (0.1, 0.5, 0.9),
        "background": ("mean", "black", "blur"),
    },
    passes=lambda parameters: parameters["n_masks"],
)
def rise(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    n_masks: int = 4000,
    grid: int = 7,
    probability: float = 0.5,
    background: str = "mean",
) -> Float[Tensor, "n 1 h w"]:
    """Σ_m f_c(x ⊙ M_m) M_m(p) / Σ_m M_m(p) at every pixel p, f_c the softmax probability.

    Masks are `grid`×`grid` coin flips, upsampled bilinearly and shifted at random; one set serves all samples of a run, and the first
    masks of a larger set are those of a smaller one. Where a mask is 0 the image becomes the background (the authors' code multiplies
    the normalised image, which is the data's mean). Divided by the masks' own sum, which differs from the paper's N·p at small N.
    Petsiuk, Das, Saenko 2018, equation 6. Units: probability.

    Args:
        n_masks: number of masks N.
        grid: cells a side of the coin-flip grid.
        probability: chance p that a cell stays visible.
        background: what shows where the mask hides, as a substrate.
    """
    hidden = substrate(background, inputs, context.space)
    visible = inputs - hidden
    height, width = inputs.shape[2:]
    weighted = torch.zeros(len(inputs), height * width, device=inputs.device)
    total = torch.zeros(height * width, device=inputs.device)
    for start in range(0, n_masks, BLOCK):
        count = min(BLOCK, n_masks - start)
        drawn = random_masks(context.seed, start, count, grid, probability, height, width).to(inputs)

        def write(i: int, first: int, last: int, out: Tensor, drawn: Tensor = drawn) -> None:
            torch.addcmul(hidden[i], drawn[first:last, None], visible[i], out=out)

        scores = variant_probabilities(model, inputs, targets, count, write, context.batch)
        weighted += scores @ drawn.flatten(1).float()
        total += drawn.flatten(1).float().sum(0)
    return (weighted / total.clamp_min(torch.finfo(torch.float32).tiny)).view(-1, 1, height, width)


@lru_cache(maxsize=8)
def random_masks(
    seed: int, start: int, count: int, grid: int, probability: float, height: int, width: int
) -> Float[Tensor, "count h w"]:
    """Masks start … start + count − 1 of the run's one sequence, with values in [0, 1] (section 3.2 of the paper)."""
    cell_h, cell_w = -(-height // grid), -(-width // grid)
    draws = [generator(seed, "rise", start + m) for m in range(count)]
    cells = torch.stack([torch.rand(1, grid, grid, generator=draw) for draw in draws]) < probability
    large = F.interpolate(cells.float(), size=((grid + 1) * cell_h, (grid + 1) * cell_w), mode="bilinear")[:, 0]
    tops = [int(torch.randint(cell_h, (), generator=draw)) for draw in draws]
    lefts = [int(torch.randint(cell_w, (), generator=draw)) for draw in draws]
    return torch.stack(
        [mask[top : top + height, left : left + width] for mask, top, left in zip(large, tops, lefts, strict=True)]
    )
