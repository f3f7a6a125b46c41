"""Sibling models: the other trained models that evaluations compare with, as the user names them, as they are shipped, kept, or trained.

A sibling is looked for in this order: a checkpoint or model that the user names under `siblings:`, one of the embedded model's own, one
kept in the store from an earlier run, and last it is trained by its recipe, where there is data to train on. One that did not learn what
it should gives no verdict, but a reason.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load, save
from torch import nn

from cardgen.config import RunConfig, SiblingModel
from cardgen.digests import SHORT, digest
from cardgen.errors import CardgenError
from cardgen.forward import all_logits, prepared
from cardgen.kin import Family, Kin
from cardgen.maskers import build
from cardgen.recipes import Sibling
from cardgen.records import write_atomic
from cardgen.repair import copied
from cardgen.study import Subject
from cardgen.subjects.black_box import BlackBox
from cardgen.subjects.checkpoints import PICKLED, load_weights
from cardgen.subjects.compression import int8
from cardgen.subjects.embedded import sibling_network
from cardgen.subjects.loading import Loaded
from cardgen.subjects.models import check_fit, load_model
from cardgen.subjects.networks import shipped
from cardgen.subjects.raising import INT8, Raising
from cardgen.weights import weights_digest

WITHIN = {"seed": 0.02, "compressed": 0.02, "architecture": 0.05}
"""How far a sibling's accuracy on the samples may lie from the model's, or by one sample, if both are to have learnt the same."""
MEMORISED = 0.95
"""Training accuracy on random labels, at least."""
FILES = (".safetensors", *PICKLED)
FOLDER = ".siblings"
"""In the subject's folder of the store; not committed."""


class Found(NamedTuple):
    """A sibling before it is checked: the module, its accuracy in training where that is known, and where it comes from."""

    module: nn.Module
    accuracy: float | None
    source: str


@dataclass(frozen=True, eq=False)
class Search:
    """Looks for the siblings of a subject.

    Attributes:
        config: of the run.
        loaded: the subject.
        folder: where trained siblings are kept.
        raising: how to train them, or why that cannot be done.
    """

    config: RunConfig
    loaded: Loaded
    folder: Path
    raising: Raising | str

    def family(self, needed: Sequence[Sibling]) -> Family:
        """All of these: found, or with the reason why there is no verdict with them."""
        found: dict[Sibling, Kin] = {}
        missing: dict[Sibling, str] = {}
        # not open(): copies of the model would take its counter of passes along, and be counted twice
        with prepared(self.subject.model):
            for sibling in needed:
                try:
                    found[sibling] = self._kin(sibling)
                except CardgenError as error:
                    missing[sibling] = f"no sibling {sibling.name}: {error}"
        return Family(found, missing)

    @property
    def subject(self) -> Subject:
        return self.loaded.subject

    def _kin(self, sibling: Sibling) -> Kin:
        found = self._named(sibling) or self._shipped(sibling) or self._derived(sibling) or self._trained(sibling)
        first = self.subject.inputs[:1]
        module = found.module.to(first.device, first.dtype).eval()
        accuracy = self._right(module) if sibling.kind in WITHIN else found.accuracy
        self._check(sibling, module, accuracy)
        return Kin(module, weights_digest(module), accuracy, found.source)

    def _named(self, sibling: Sibling) -> Found | None:
        """The one that the user names: a file of weights for the sibling's own architecture, or another model."""
        given = (self.config.siblings or {}).get(sibling.name)
        if given is None or given.untrained:
            return None
        if Path(given.model).suffix in FILES:
            module = self._blank(sibling)
            return Found(module, None, f"weights of {load_weights(module, Path(given.model))}")
        return Found(self._model(given, sibling), None, given.model)

    def _model(self, asked: SiblingModel, sibling: Sibling) -> nn.Module:
        """A model by name, which has to take the subject's inputs, and to have its classes unless it tells scenes."""
        known = self.config.preprocess
        model = load_model(asked.model, weights=asked.weights, num_classes=asked.num_classes, preprocess=known)
        if known is None and self.loaded.preprocess not in (None, model.preprocess):
            raise CardgenError(
                f"{asked.model} takes other inputs: {model.preprocess}; expected {self.loaded.preprocess}, as the model; "
                "give --preprocess if both may take the same"
            )
        first = self.subject.inputs[:1]
        outputs = check_fit(model.module.to(first.device, first.dtype), first)
        if sibling.kind != "scene" and outputs != self.outputs:
            raise CardgenError(
                f"{asked.model} has {outputs} outputs; expected {self.outputs}, those of the model; name another, or give num_classes"
            )
        return model.module

    def _shipped(self, sibling: Sibling) -> Found | None:
        found = shipped(self.config.model, sibling.name) if self.config.weights is None else None
        if found is None:
            return None
        entry, state = found
        module = self._blank(sibling)
        module.load_state_dict(state)
        return Found(module, entry.get("training_accuracy", entry.get("accuracy")), "comes with cardgen")

    def _derived(self, sibling: Sibling) -> Found | None:
        """The model itself with its weights rounded, which takes no training."""
        return Found(int8(self._own), None, "rounded to eight bits") if sibling == INT8 else None

    def _trained(self, sibling: Sibling) -> Found:
        """The one kept from an earlier run, or one trained now, and kept."""
        if isinstance(self.raising, str):
            raise CardgenError(self.raising)
        if not self.raising.raises(sibling):
            raise CardgenError(
                f"it learns other labels, which the data does not have; expected one under siblings:; name a checkpoint as {sibling.name}"
            )
        blank = self._blank(sibling)
        plan = self.raising.identity(sibling, self.loaded.weights, _architecture(blank))
        path = self.folder / f"{sibling.name}-{digest(plan)[:SHORT]}.safetensors"
        note, part = path.with_suffix(".json"), path.with_suffix(".part")
        if not (path.is_file() and note.is_file()):
            self.raising.tell(f"Training the sibling {sibling.name}.")
            grown = self.raising.trained(sibling, blank, self.subject, part)
            told = {"plan": plan, "epochs": grown.epochs, "training_accuracy": grown.training_accuracy}
            write_atomic(
                path, save({name: value.cpu().contiguous() for name, value in grown.model.state_dict().items()})
            )
            write_atomic(note, json.dumps(told, indent=2) + "\n")
            part.unlink(missing_ok=True)
            blank = grown.model
        else:
            told = json.loads(note.read_text())
            blank.load_state_dict(load(path.read_bytes()))
        known: Mapping[str, Any] = told
        how = f"trained for {known['epochs']} epochs" if known["epochs"] else "trained by the user's function"
        return Found(blank, known["training_accuracy"], how)

    @property
    def _own(self) -> nn.Module:
        if isinstance(self.subject.model, BlackBox):
            raise CardgenError(
                "the model is a black box, which cannot be trained or changed; expected one under siblings:; name a model there"
            )
        return self.subject.model

    def _blank(self, sibling: Sibling) -> nn.Module:
        """A network of the sibling's architecture, whose weights do not matter."""
        if sibling.kind == "masker":
            with prepared(self._own):
                return build(str(sibling.variant), self._own, self.subject.inputs[:1], self.outputs)
        given = (self.config.siblings or {}).get(sibling.name)
        if given is not None and Path(given.model).suffix not in FILES:
            return self._model(given, sibling)
        if sibling.kind not in ("architecture", "scene"):
            return copied(self._own)
        found = sibling_network(self.config.model, sibling)
        if found is None:
            raise CardgenError(
                f"another network is needed; expected one under siblings: in cardgen.yaml, such as {sibling.name}: {{model: resnet18, "
                "weights: none}; name one"
            )
        return found

    @property
    def outputs(self) -> int:
        return int(self.subject.logits(1).shape[1])

    def _right(self, module: nn.Module) -> float | None:
        """Share of the samples that it gets right; None where there are no labels."""
        labels = self.loaded.labels
        if labels is None:
            return None
        with prepared(module):
            predicted = all_logits(module, self.subject.inputs, self.subject.batch).argmax(1).cpu()
        return float((predicted == torch.from_numpy(labels)).double().mean())

    def _check(self, sibling: Sibling, module: nn.Module, accuracy: float | None) -> None:
        """Refuse a sibling that did not learn what it should.

        Raises:
            CardgenError: says what it reached, and what was expected.
        """
        model = self.loaded.record.accuracy
        # of few samples, a single one makes a larger difference
        allowed = max(WITHIN[sibling.kind], 1.001 / len(self.subject)) if sibling.kind in WITHIN else None
        if allowed and accuracy is not None and model is not None and abs(accuracy - model) > allowed:
            raise CardgenError(
                f"it gets {accuracy:.1%} of the samples right and the model {model:.1%}; expected a difference of at most "
                f"{100 * allowed:.2g} points; train it better"
            )
        if sibling.kind != "random-labels":
            return
        if accuracy is not None and accuracy < MEMORISED:
            raise CardgenError(
                f"it learnt {accuracy:.1%} of its random labels; expected {MEMORISED:.0%} at least; train it for longer"
            )
        right, chance = self._right(module), self.loaded.record.majority_share
        if right is not None and chance is not None and model is not None and right > (chance + model) / 2:
            raise CardgenError(
                f"it gets {right:.1%} of the true labels right, and the model {model:.1%}; expected a model of random labels; name another"
            )


def _architecture(module: nn.Module) -> str:
    """Names and shapes of all it holds."""
    return digest([[name, list(value.shape)] for name, value in module.state_dict().items()])[:SHORT]
