"""LIME: the weights of a sparse linear model that imitates the class's probability when superpixels are hidden."""

import warnings

import torch
from jaxtyping import Bool, Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lars_path
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.forward import variant_probabilities
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.segments import counts, hiding, painted, superpixels
from cardgen.space import COLOURS, substrate

WIDTH = 0.25
OWN_COLOUR = "segment_mean"


@method(
    key="lime",
    title="LIME",
    source=Source(
        paper="Ribeiro et al. 2016", url="https://arxiv.org/abs/1602.04938", where="algorithm 1, sections 3.3 to 3.6"
    ),
    access="outputs",
    random=True,
    ranges={
        "n_perturbations": (250, 1000, 2000),
        "segments": (25, 50, 100),
        "features": (5, 10, 20),
        "background": ("grey", "black", "blur", OWN_COLOUR),
    },
    passes=lambda parameters: parameters["n_perturbations"],
)
def lime(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    n_perturbations: int = 1000,
    segments: int = 50,
    features: int = 10,
    background: str = "grey",
) -> Float[Tensor, "n 1 h w"]:
    """At each pixel the weight w_j of its superpixel j in the linear model that minimises Σ_z π(z) (f_c(x_z) − w_0 − Σ_j w_j z_j)².

    z says which superpixels are present, x_z shows the background in the others, f_c is the softmax probability and
    π(z) = exp(−D²/(2·0.25²)) with D = 1 − √(share present), the cosine distance to the whole image. At most `features` weights differ
    from zero (K-LASSO): the superpixels at the last point of the lasso's path with no more than that many, refitted by least squares
    in float64. Signed: above zero where the superpixel raises the probability. Units: probability.
    Ribeiro, Singh, Guestrin 2016, algorithm 1 and section 3.4.

    Where paper and authors' code differ, the paper is followed: superpixels are greyed out (in the code each shows its mean colour,
    here `segment_mean`; with every superpixel of the embedded digits hidden so, the digit network names 85 % of them as before), K = 10
    (section 3.6; the code keeps all), lasso and least squares (the code: ridge regression with α = 1). Where the paper leaves it open
    or few do as it says, the code is followed: cosine distance (the paper suggests L2 for images), width 0.25 under a root (σ² = 2·0.25²
    in the paper's notation), each superpixel present with chance ½ (the paper draws how many first), the whole image as the first of
    N = 1000 variants. Superpixels are SLIC's, as the code's quickshift cuts images of 64 × 64 into three to six. A sample's variants are
    its own, and the first of a larger N are those of a smaller.

    Args:
        n_perturbations: variants N of each image.
        segments: superpixels to cut an image into; about so many result.
        features: superpixels K that get a weight.
        background: what shows in place of a superpixel, as a substrate: grey (the paper's), black, white, mean, zero, blur; or
            segment_mean, the superpixel's own mean colour.

    Raises:
        CardgenError: no variants, segments or features are asked for, or the background is unknown.
    """
    if min(n_perturbations, features) < 1:
        raise CardgenError(
            f"lime: n_perturbations is {n_perturbations} and features {features}; expected at least 1 of each; choose more"
        )
    labels = superpixels(inputs, context.space, segments)
    hidden = _hidden(background, inputs, labels, context)
    present = [
        (torch.rand(n_perturbations, count, generator=draw) < 0.5).index_fill(0, torch.tensor(0), True)
        for count, draw in zip(counts(labels), context.generators("lime"), strict=True)
    ]
    write = hiding(inputs, hidden, labels, present)
    scores = variant_probabilities(model, inputs, targets, n_perturbations, write, context.batch).cpu()
    return painted([surrogate(z, f, features) for z, f in zip(present, scores, strict=True)], labels)


def surrogate(present: Bool[Tensor, "k m"], scores: Float[Tensor, " k"], features: int) -> Float[Tensor, " m"]:
    """The weights of K-LASSO, of which at most `features` differ from zero; the intercept is fitted and dropped."""
    z = present.double()
    distance = 1 - z.mean(1).sqrt()
    nearness = torch.exp(-(distance**2) / (2 * WIDTH**2))
    columns, wanted = (_centred(values, nearness) for values in (z, scores.double()[:, None]))
    # as shares of the largest score: what lars_path takes for nothing, 1e-7, is then what float32 cannot tell apart
    kept = _on_the_path(columns, wanted[:, 0] / (float(scores.abs().max()) or 1), features)
    weights = torch.zeros(z.shape[1], dtype=torch.float64)
    weights[kept] = torch.linalg.lstsq(columns[:, kept], wanted, driver="gelsd").solution[:, 0]
    return weights


def _centred(values: Float[Tensor, "k m"], weights: Float[Tensor, " k"]) -> Float[Tensor, "k m"]:
    """Less their weighted mean, times the root of the weight: a weighted fit with an intercept becomes a plain one without."""
    share = weights / weights.sum()
    return (values - share @ values) * weights.sqrt()[:, None]


def _on_the_path(columns: Float[Tensor, "k m"], wanted: Float[Tensor, " k"], features: int) -> Bool[Tensor, " m"]:
    """The columns with a coefficient at the smallest penalty of the lasso at which these are no more than `features`."""
    if features >= columns.shape[1]:
        return torch.ones(columns.shape[1], dtype=torch.bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        path = torch.from_numpy(lars_path(columns.numpy(), wanted.numpy(), method="lasso")[2]) != 0
    return path[:, path.sum(0) <= features][:, -1]


def _hidden(
    background: str, inputs: Float[Tensor, "n c h w"], labels: Int[Tensor, "n h w"], context: Context
) -> Float[Tensor, "n c h w"]:
    if background not in (*COLOURS, "blur", OWN_COLOUR):
        raise CardgenError(
            f"lime: background is {background!r}; expected {', '.join((*COLOURS, 'blur'))} or {OWN_COLOUR}; choose one"
        )
    if background != OWN_COLOUR:
        return substrate(background, inputs, context.space)
    own = [torch.nn.functional.one_hot(of.flatten()).to(inputs) for of in labels]
    means = [image.flatten(1) @ of / of.sum(0) for image, of in zip(inputs, own, strict=True)]
    return torch.stack([mean[:, of] for mean, of in zip(means, labels, strict=True)])
