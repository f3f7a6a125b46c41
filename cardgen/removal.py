"""Networks trained anew on images that lack their most salient pixels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64, UInt8
from torch import Tensor, nn

from cardgen.forward import all_logits, count, prepared, uncounted
from cardgen.memo import Memo
from cardgen.repair import copied
from cardgen.study import Study, Subject
from cardgen.subjects.retraining import Change, Picked, Retraining

PERCENTS = (10, 30, 50, 70, 90)
"""Shares of the pixels that are removed."""
AT_ONCE = 256
"""Training images that are explained at once, so that no more of their attributions are in memory."""


def first_share(order: Int[Tensor, "n p"]) -> UInt8[Tensor, "n p"]:
    """For each pixel the place in PERCENTS of the first share with which it goes; their number for pixels that stay."""
    pixels = order.shape[1]
    counts = torch.tensor([(pixels * percent * 2 + 100) // 200 for percent in PERCENTS])
    of_place = torch.searchsorted(counts, torch.arange(pixels), right=True).to(order.device, torch.uint8)
    return torch.empty_like(order, dtype=torch.uint8).scatter_(1, order, of_place.expand_as(order))


@dataclass(frozen=True, eq=False)
class Bench:
    """What retraining takes of a subject, whatever the method.

    Attributes:
        subject: the samples.
        training: what there is to train with.
        labels: of the samples.
        picked: the training images.
        epochs: passes over them.
        seeds: of first weights and of the order of images.
    """

    subject: Subject
    training: Retraining
    labels: Int[Tensor, " n"]
    picked: Picked
    epochs: int
    seeds: tuple[int, ...]

    def whole(self, n: int) -> Bool[np.ndarray, "seeds n"]:
        """Which samples are right by networks that saw all pixels; once a subject."""

        def train() -> Bool[np.ndarray, "seeds n"]:
            models = self._trained(self.seeds, lambda member, rows, images: images, "whole")
            return np.stack([self._right(model, self.subject.inputs[:n]) for model in models])

        found: Bool[np.ndarray, "seeds n"] = self.subject.memo.get(
            ("retrained whole", len(self.picked), self.epochs, self.seeds, n), train
        )
        return found

    def right(self, study: Study) -> Bool[np.ndarray, "shares seeds n"]:
        """Which samples are right by networks that were trained without the pixels that the study's method calls most salient."""
        gone, colour = self.gone(study), self.colour
        members = [(place, seed) for place in range(len(PERCENTS)) for seed in self.seeds]
        models = self._trained(
            [seed for _, seed in members],
            removal([place for place, _ in members], gone, colour),
            f"{PERCENTS} {colour.flatten().tolist()} {hashlib.sha256(gone.cpu().numpy().tobytes()).hexdigest()}",
        )
        height, width = study.subject.inputs.shape[2:]
        there = first_share(study.order()).view(-1, 1, height, width)
        shown = self.training.data.inputs(colour.expand(1, -1, height, width)).to(self.subject.inputs)
        found = [
            self._right(model, torch.where(there <= place, shown, self.subject.inputs[: study.n]))
            for (place, _), model in zip(members, models, strict=True)
        ]
        return np.stack(found).reshape(len(PERCENTS), len(self.seeds), study.n)

    def gone(self, study: Study) -> UInt8[Tensor, "m p"]:
        """`first_share` of every training image."""
        explained, found = self._explained(), []
        for start in range(0, len(self.picked), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            inputs = self._inputs(part)
            subject = replace(
                self.subject,
                inputs=inputs,
                targets=explained[part],
                ids=self.picked.ids[part],
                masks=None,
                labels=None,
                synonyms=None,
                ratings=None,
                cuts=(),
                memo=Memo(),
            )
            found.append(first_share(replace(study, subject=subject, n=len(inputs)).order()))
        return torch.cat(found)

    def _explained(self) -> Int64[Tensor, " m"]:
        """The class explained of training images."""

        def predict() -> Tensor:
            parts = [slice(start, start + AT_ONCE) for start in range(0, len(self.picked), AT_ONCE)]
            batch = self.subject.batch
            predicted = [all_logits(self.subject.model, self._inputs(part), batch).argmax(1) for part in parts]
            return self.training.explained(torch.cat(predicted), self.picked.labels.to(self.subject.targets))

        found: Tensor = self.subject.memo.get(("training classes", len(self.picked)), predict)
        return found

    def _inputs(self, part: slice) -> Float[Tensor, "m c h w"]:
        like = self.subject.inputs
        return self.training.data.inputs(self.picked.images[part].to(like.device)).to(like)

    @property
    def colour(self) -> UInt8[Tensor, "c 1 1"]:
        """The data's mean, as images store it."""
        space, like = self.subject.space, self.subject.inputs[:1].float()
        share = (space.colour("mean", like) - space.colour("black", like)) / space.range(like)
        return (255 * share).round().to(torch.uint8)

    def _trained(self, seeds: Sequence[int], change: Change, what: str) -> list[nn.Module]:
        subject = self.subject
        blank = uncounted(copied(subject.model)).float()
        models = self.training.models(blank, self.picked, self.epochs, seeds, change, what)
        count(subject.model, 2 * len(models) * self.epochs * len(self.picked))
        return models

    def _right(self, model: nn.Module, inputs: Float[Tensor, "n c h w"]) -> Bool[np.ndarray, " n"]:
        with prepared(model):
            predicted = all_logits(model, inputs.float(), self.subject.batch).argmax(1)
        count(self.subject.model, len(inputs))
        found: Bool[np.ndarray, " n"] = (predicted == self.labels[: len(inputs)]).cpu().numpy()
        return found


def removal(places: Sequence[int], gone: UInt8[Tensor, "m p"], colour: UInt8[Tensor, "c 1 1"]) -> Change:
    """The change of images under which a network sees none of the pixels that go with the share at its place in PERCENTS."""

    def change(member: int, rows: Int64[Tensor, " b"], images: UInt8[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
        there = gone[rows.to(gone.device)].to(images.device) <= places[member]
        return torch.where(there.view(-1, 1, *images.shape[2:]), colour.to(images.device), images)

    return change
