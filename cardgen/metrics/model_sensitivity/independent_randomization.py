"""Independent randomisation: how maps change as one layer at a time is re-initialised."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.randomisation import against_itself, to_reset
from cardgen.recipes import Weights
from cardgen.records import Curve, Source
from cardgen.scores import Scores
from cardgen.study import Study

MOVED = 0.1
MOST, NAMED = 64, 8
"""Layers that a record's curve can hold, and those that it can name."""


@metric(
    key="independent_randomization",
    title="Independent Randomization",
    attribute="model_sensitivity",
    question="Do maps change as a typical layer that the prediction rests on loses its weights?",
    quantity="Spearman correlation after one layer, the median one",
    unit="correlation",
    direction="lower",
    source=Source(paper="Adebayo et al. 2018", url="https://arxiv.org/abs/1810.03292", where="section 3"),
    rule="randomisation",
    size="again",
    needs=("weights",),
    passes=lambda n, explainer, p: (
        n * ((explainer.passes + 1) * p["reinitialisations"] * p["layers"] + 3 * explainer.passes + 2)
    ),
)
def independent_randomization(study: Study, *, reinitialisations: int = 5, layers: int = 5) -> Scores:
    """Spearman correlation of a sample's map with its maps as one layer alone is re-initialised: that of the sample's median layer.

    Weights and normalisation statistics of the layer are drawn anew, `reinitialisations` times; all other layers keep theirs, and the
    class stays the original prediction. A layer counts for a sample if that moves f_c of this very sample by more than 0.1, the mean of
    |f_c(layer drawn anew) − f_c| over the draws: where the prediction stays, maps may stay too. Of the layers that count for a sample, its
    median layer is the one in the middle by mean correlation over the draws, of two the more alike; so at least half of them change
    the map as much or more. All the sample's draws are those of that layer. Lower is better; between −1 and 1. Not valid for a sample
    that no layer counts for.

    Layers are counted and chosen sample by sample: averaged over samples, the choice would make a score depend on the sample's company.
    Layers are modules with parameters or statistics of their own in the order of execution; of more than `layers` so many evenly spaced
    ones are taken, the first and the last among them. Adebayo et al. 2018, section 3: they judge by eye, and count every layer.

    The curve shows every layer that counts for some sample, over these samples. Reported: the number of samples that each layer taken
    counts for, with its name where there are at most 8; the other measures, of the median layer.

    Args:
        study: one method on one subject.
        reinitialisations: draws of each layer's weights.
        layers: taken, 1 to 64.

    Raises:
        CardgenError: another number of layers.
    """
    if not 1 <= layers <= MOST:
        raise CardgenError(
            f"layers is {layers}; expected 1 to {MOST}, the points that a curve holds; take another number"
        )
    known = study.subject.layers
    places = sorted({round((len(known) - 1) * i / max(layers - 1, 1)) for i in range(layers)})
    recipes = [[Weights(only=known[place], draw=draw) for draw in range(reinitialisations)] for place in places]
    counts = torch.stack([_moved(study, draws) > MOVED for draws in recipes])
    found = torch.stack([torch.stack([to_reset(study, recipe) for recipe in draws]) for draws in recipes])
    alike = found[..., 0].mean(1)
    curve = _curve([place + 1 for place in places], alike, counts) if bool(counts.any()) else None
    valid = counts.any(0)
    scores = against_itself(study, _of_median(found, alike, counts), curve, valid if bool(valid.any()) else None)
    names = [f"{known[place] or 'the model'} " if len(places) <= NAMED else "" for place in places]
    counted = ", ".join(f"{name}{int(row.sum())}" for name, row in zip(names, counts, strict=True))
    if curve is None:
        reason = f"No layer's re-initialisation moves the prediction of any sample by more than {MOVED}."
        return replace(scores, valid=valid.cpu().numpy(), reported={"counted_for": counted}, reason=reason)
    return replace(scores, reported={**scores.reported, "counted_for": counted})


def _moved(study: Study, draws: list[Weights]) -> Float[Tensor, " n"]:
    """Mean over draws of |f_c under the draw − f_c|."""
    subject, n = study.subject, study.n
    targets = subject.targets[:n, None]
    drawn = [subject.probabilities(n, recipe).gather(1, targets)[:, 0] for recipe in draws]
    return (torch.stack(drawn) - subject.clean(n)).abs().mean(0)


def _of_median(
    found: Float[Tensor, "layers draws n measures"], alike: Float[Tensor, "layers n"], counts: Bool[Tensor, "layers n"]
) -> Float[Tensor, "draws n measures"]:
    """Each sample's similarities at its median layer: of k that count, the one that k // 2 others precede."""
    order = torch.where(counts, alike, torch.inf).argsort(dim=0, stable=True)
    median = order.gather(0, (counts.sum(0) // 2)[None])
    return found.gather(0, median[:, None, :, None].expand(1, *found.shape[1:]))[0]


def _curve(places: list[int], alike: Float[Tensor, "layers n"], counts: Bool[Tensor, "layers n"]) -> Curve:
    shown = [i for i in range(len(places)) if bool(counts[i].any())]
    return Curve(
        x_label="layer re-initialised, counted from the top",
        y_label="Spearman correlation with the original maps",
        x=[float(places[i]) for i in shown],
        y=[float(alike[i, counts[i]].mean()) for i in shown],
    )
