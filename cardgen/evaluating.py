"""The whole line on tensors: methods through metrics to records, on a model and samples of one's own."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from cardgen.api import BATCH, make_subject, named, taught
from cardgen.budgets import BudgetName
from cardgen.config import RunConfig
from cardgen.digests import digest
from cardgen.forward import all_logits, prepared
from cardgen.kin import Family, Kin
from cardgen.plan import make_plan
from cardgen.records import Record, SubjectRecord
from cardgen.runner import Runner
from cardgen.space import Space
from cardgen.store import Store
from cardgen.study import Subject
from cardgen.subjects.loading import Loaded, contents, cuts, health
from cardgen.subjects.retraining import Retraining
from cardgen.weights import weights_digest


def evaluate(
    methods: str | Sequence[str],
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    *,
    metrics: str | Sequence[str] = "all",
    masks: Bool[Tensor, "n h w"] | None = None,
    labels: Int[Tensor, " n"] | None = None,
    budget: BudgetName = "quick",
    seed: int = 0,
    batch: int = BATCH,
    space: Space | None = None,
    layer: str | None = None,
    siblings: Mapping[str, nn.Module] | None = None,
    retraining: Retraining | None = None,
    out: str | Path | None = None,
    name: str = "model-data",
) -> list[Record]:
    """Verdicts of saliency methods on a model and samples: the records of `cardgen run`, controls left out.

    Args:
        methods: keys, `core`, or `all`.
        model: gives logits `[n, k]`.
        inputs: in the model's own space; the budget's sample sizes are cut to what there is.
        targets: the class explained, a sample.
        metrics: keys, or `all`.
        masks: ground truth; metrics that need it are skipped without.
        labels: true classes, for the health gate, and for metrics that need them; without them the model's health is unknown.
        budget: quick, standard or full.
        seed: of all random draws.
        batch: samples to forward at once.
        space: bounds and mean of the inputs' channels; an image in [0, 1] with a grey mean if None.
        layer: for methods of class activation; found if None.
        siblings: other trained models, by name, as for `measure`; what takes others is skipped.
        retraining: what there is to train the model's architecture anew with; metrics that do are skipped without.
        out: folder whose `evaluations/` takes the records, and from which an interrupted call goes on; else nothing is kept.
        name: the subject's folder there.

    Raises:
        CardgenError: unknown names, shapes that do not fit. What goes wrong inside one metric becomes an `error` record instead.
    """
    subject = replace(make_subject(model, inputs, targets, masks, space, seed, batch, layer), cuts=cuts(None))
    subject = taught(subject, labels, retraining)
    config = RunConfig(
        methods=_names(methods),
        metrics=_names(metrics),
        budget=budget,
        seed=seed,
        batch=batch,
        layer=layer,
        target="given",
    )
    loaded = related(describe(subject, labels, name), siblings or {})
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(out or scratch) / "evaluations", name)
        plan = make_plan(config, loaded)
        Runner(loaded, plan, store).run()
        return [
            record
            for job in plan.jobs
            if not job.method.entry.control
            and (record := store.record(store.path(job.method.entry, job.metric.entry.key)))
        ]


def related(loaded: Loaded, siblings: Mapping[str, nn.Module]) -> Loaded:
    """The subject with sibling models of the caller's."""
    found = {
        sibling: Kin(module.eval(), weights_digest(module), None, "given")
        for sibling, module in named(siblings).items()
    }
    family = Family(found)
    return replace(loaded, family=family, subject=replace(loaded.subject, siblings=family.modules))


def describe(subject: Subject, labels: Int[Tensor, " n"] | None, name: str) -> Loaded:
    """A subject of tensors with what records and pictures need of it."""
    images = pictures(subject.inputs, subject.space)
    with prepared(subject.model):
        found = all_logits(subject.model, subject.inputs, subject.batch)
    weights = weights_digest(subject.model)
    given = (subject.inputs.float(), subject.targets, subject.masks)  # another class or mask gives other scores
    columns = [None if column is None else column.cpu().numpy() for column in given]
    samples = contents(subject.ids, subject.space, columns)
    record = SubjectRecord(
        slug=name,
        title=name,
        description="A model and samples given from Python.",
        model=type(subject.model).__name__,
        model_sha256=weights,
        parameters=sum(parameter.numel() for parameter in subject.model.parameters()),
        classes=tuple(map(str, range(found.shape[1]))),
        data="tensors",
        data_sha256=digest(samples),
        n=len(subject),
        shape=tuple(subject.inputs.shape[1:]),
        target="given",
        has_masks=subject.masks is not None,
        **health(found.argmax(1).cpu(), None if labels is None else labels.cpu()),
    )
    return Loaded(subject, record, images, samples, digest([weights, _fingerprint(found[0])]))


def _fingerprint(scores: Float[Tensor, " k"]) -> list[str]:
    """One sample's logits to three digits: what tells models apart that differ in their code alone, functions above all."""
    return [f"{score:.3g}" for score in (scores + 0.0).tolist()]


def pictures(inputs: Float[Tensor, "n c h w"], space: Space) -> UInt8[np.ndarray, "n 3 h w"]:
    """Inputs as RGB images that people can look at; one channel becomes grey, of more than three the first three are shown."""
    share = (inputs.float() - space.colour("black", inputs).float()) / space.range(inputs).float()
    bytes_ = (share.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    found: UInt8[np.ndarray, "n 3 h w"] = (
        bytes_[:, :3] if inputs.shape[1] >= 3 else bytes_[:, :1].expand(-1, 3, -1, -1)
    ).numpy()
    return found


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(given.split(",")) if isinstance(given, str) else tuple(given)
