"""The Python interface: explain, measure, evaluate, on any module that gives logits."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cardgen.draws import ContentIds
from cardgen.errors import CardgenError
from cardgen.forward import all_finite, prepared
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.recipes import Sibling, sibling
from cardgen.records import Value
from cardgen.scores import Scores
from cardgen.space import Space
from cardgen.study import Study, Subject
from cardgen.subjects.retraining import Retraining

BATCH = 32


def explain(
    method: str,
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    reduce: bool = True,
    seed: int = 0,
    batch: int = BATCH,
    space: Space | None = None,
    masks: Bool[Tensor, "n h w"] | None = None,
    layer: str | None = None,
    masker: nn.Module | None = None,
    **params: Value,
) -> Float[Tensor, "n *chw"]:
    """Maps `[n, h, w]` of a saliency method, or with `reduce=False` its attributions `[n, c or 1, h, w]`; float32, not normalised.

    The model is evaluated in evaluation mode and given back as it was. A sample's map does not depend on the batch it came in.

    Args:
        method: a key of `cardgen list methods`, controls included.
        model: gives logits `[n, k]`.
        inputs: in the model's own space.
        targets: the class explained, a sample.
        reduce: whether attributions become a map, by the method's declared reduction.
        seed: for methods that draw random numbers.
        batch: samples to forward at once.
        space: bounds and mean of the inputs' channels; an image in [0, 1] if None.
        masks: ground truth, for the planted-truth control.
        layer: for methods of class activation; found if None.
        masker: the masking network trained for the model, for methods whose map it makes.
        **params: the method's hyperparameters.

    Raises:
        CardgenError: unknown method or hyperparameter, unfit model or inputs.
    """
    chosen = METHODS[method]
    parameters = chosen.parameters(params)
    subject = make_subject(model, inputs, targets, masks, space, seed, batch, layer)
    if masker is not None:
        subject = replace(subject, siblings=dict.fromkeys(chosen.siblings, masker))
    study = Study(subject, len(subject), chosen, parameters)
    with prepared(model):
        found = study.explain(slice(None))
    return study.map_of(found) if reduce else found


def measure(
    metric: str,
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    maps: Float[Tensor, "n h w"] | None = None,
    method: str | None = None,
    masks: Bool[Tensor, "n h w"] | None = None,
    seed: int = 0,
    batch: int = BATCH,
    space: Space | None = None,
    layer: str | None = None,
    siblings: Mapping[str, nn.Module] | None = None,
    synonyms: Float[Tensor, "n c h w"] | None = None,
    true_labels: Int[Tensor, " n"] | None = None,
    retraining: Retraining | None = None,
    method_params: dict[str, Value] | None = None,
    **params: Value,
) -> Scores:
    """Scores of a metric: `.values` float64 `[n]` without NaN, `.valid` false where the quantity does not exist.

    Give `maps=` of your own, or `method=` to have them made; metrics that explain again, under other weights or seeds, need `method=`.

    Args:
        metric: a key of `cardgen list metrics`.
        model: gives logits `[n, k]`.
        inputs: in the model's own space.
        targets: the class explained, a sample.
        maps: your own, one a sample.
        method: a key of `cardgen list methods`.
        masks: ground truth, for metrics that need it.
        seed: of all random draws.
        batch: samples to forward at once.
        space: bounds and mean of the inputs' channels; an image in [0, 1] with a grey mean if None.
        layer: for methods of class activation; found if None.
        siblings: other trained models, by name (seed-1, random-labels, architecture, scene), for metrics that compare with them.
        synonyms: the same samples in other words, of the same shape, for input_consistency.
        true_labels: the samples' classes, for metrics that need them.
        retraining: what there is to train the model's architecture anew with, for metrics that do.
        method_params: the method's hyperparameters.
        **params: the metric's parameters.

    Raises:
        CardgenError: unknown names, neither or both of maps and method, shapes that do not fit, non-finite maps.
    """
    chosen = METRICS[metric]
    parameters = chosen.parameters(params)
    subject = make_subject(model, inputs, targets, masks, space, seed, batch, layer)
    subject = replace(subject, siblings=named(siblings or {}), synonyms=_like(synonyms, subject.inputs))
    subject = taught(subject, true_labels, retraining)
    if (maps is None) == (method is None):
        raise CardgenError(
            "measure needs maps= or method=, one of the two: maps of your own, or the method that makes them"
        )
    if maps is not None:
        study = Study(subject, len(subject), given=_own_maps(maps, inputs))
    else:
        explainer = METHODS[str(method)]
        study = Study(subject, len(subject), explainer, explainer.parameters(method_params or {}))
    return chosen.measure(study, parameters)


def named(siblings: Mapping[str, nn.Module]) -> dict[Sibling, nn.Module]:
    """Models by what they are to the one explained, from names such as seed-1.

    Raises:
        CardgenError: a name of no kind of sibling.
    """
    return {sibling(name): module for name, module in siblings.items()}


def _like(synonyms: Tensor | None, inputs: Tensor) -> Float[Tensor, "n c h w"] | None:
    if synonyms is None:
        return None
    if synonyms.shape != inputs.shape or not bool(torch.isfinite(synonyms).all()):
        raise CardgenError(
            f"synonyms have shape {tuple(synonyms.shape)}, or values that are not finite; expected finite numbers of shape "
            f"{tuple(inputs.shape)}, the same samples in other words"
        )
    return synonyms.detach().to(inputs)


def taught(subject: Subject, labels: Tensor | None, retraining: Retraining | None) -> Subject:
    """The subject with its labels and with what there is to train on, after checking them."""
    if labels is not None and (labels.shape != subject.targets.shape or labels.is_floating_point()):
        raise CardgenError(
            f"labels have shape {tuple(labels.shape)} and type {labels.dtype}; expected {len(subject)} class numbers"
        )
    known = None if labels is None else labels.to(subject.targets)
    return replace(subject, labels=known, retraining=retraining)


def _own_maps(maps: Tensor, inputs: Tensor) -> Float[Tensor, "n h w"]:
    expected = (inputs.shape[0], *inputs.shape[2:])
    if tuple(maps.shape) != expected:
        raise CardgenError(
            f"maps have shape {tuple(maps.shape)}; expected {expected}, one map [h, w] a sample; reduce channels first"
        )
    if not all_finite(maps):
        raise CardgenError("maps hold NaN or infinities; expected finite numbers; mend the method that made them")
    # to float32 large float64 would become infinite, and close ones ties
    return maps.detach().to(inputs.device, torch.promote_types(maps.dtype, torch.float32))


def make_subject(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    masks: Tensor | None,
    space: Space | None,
    seed: int,
    batch: int,
    layer: str | None,
) -> Subject:
    """The subject that the arguments of a call describe, after checking them."""
    if inputs.ndim != 4 or not len(inputs) or not inputs.is_floating_point():
        raise CardgenError(
            f"inputs have shape {tuple(inputs.shape)} and type {inputs.dtype}; expected floats [n, channels, h, w], n ≥ 1"
        )
    if targets.shape != (len(inputs),) or targets.is_floating_point():
        raise CardgenError(
            f"targets have shape {tuple(targets.shape)} and type {targets.dtype}; expected {len(inputs)} class numbers"
        )
    if not all_finite(inputs):
        raise CardgenError("inputs hold NaN or infinities; expected finite numbers; mend the data")
    if masks is not None and tuple(masks.shape) != (len(inputs), *inputs.shape[2:]):
        raise CardgenError(f"masks have shape {tuple(masks.shape)}; expected {(len(inputs), *inputs.shape[2:])}")
    first = next(model.parameters(), inputs)
    inputs = inputs.detach().to(first.device, first.dtype if first.is_floating_point() else inputs.dtype)
    return Subject(
        model,
        inputs,
        targets.to(first.device, torch.int64),
        ContentIds(inputs),
        masks=None if masks is None else masks.to(first.device).bool(),
        space=space or Space(),
        seed=seed,
        batch=batch,
        layer=layer,
    )
