"""Subject and Study: what metrics see. Every forward pass and every map is computed once, in full batches, and shared."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cardgen import draws, weights
from cardgen.errors import CardgenError
from cardgen.features import channels, last_features
from cardgen.forward import all_logits, counted, prepared, with_classes
from cardgen.memo import Memo
from cardgen.methods import Context, Method, attributions, reduced, require_fit
from cardgen.ratings import Ratings
from cardgen.recipes import ORIGINAL, Inputs, Network, Original, Recipe, Reseed, Sibling, Targets, Weights
from cardgen.records import Value
from cardgen.similarity import is_flat
from cardgen.space import COLOURS, PICTURES, UNNORMALISED, Space, substrate
from cardgen.subjects.retraining import Retraining


class Segment(NamedTuple):
    """A memo key of one segment of the samples."""

    key: Hashable
    start: int


@dataclass(frozen=True, eq=False)
class Subject:
    """A model with data to explain it on.

    Attributes:
        model: gives logits `[n, k]` for inputs `[n, c, h, w]`.
        inputs: the samples, in the model's own space, on the model's device and in its dtype.
        targets: the class explained, a sample.
        ids: the samples' names, from which all random draws are seeded.
        masks: ground truth, where there is any.
        space: bounds and mean of the inputs' channels.
        seed: the run's seed.
        batch: samples to forward at once.
        layer: the layer that methods of class activation take; found if None.
        cuts: sample counts that are asked for; samples are computed in the segments between them, so that results do not depend
            on which count came first.
        ratings: people's, of maps of these samples, where there are any.
        ruled: whether the masks are proven to be the pixels that drive the model, all of them and no others.
        siblings: other trained models, which take the same inputs.
        synonyms: the same samples said in other words, as many as there are; for text.
        labels: the samples' true classes, where they are known.
        retraining: what there is to train the model's architecture anew with.
    """

    model: nn.Module
    inputs: Float[Tensor, "n c h w"]
    targets: Int[Tensor, " n"]
    ids: Sequence[str]
    masks: Bool[Tensor, "n h w"] | None = None
    space: Space = UNNORMALISED
    seed: int = 0
    batch: int = 32
    layer: str | None = None
    cuts: tuple[int, ...] = ()
    ratings: Ratings | None = None
    ruled: bool = False
    siblings: Mapping[Sibling, nn.Module] = field(default_factory=dict)
    synonyms: Float[Tensor, "n c h w"] | None = None
    labels: Int[Tensor, " n"] | None = None
    retraining: Retraining | None = None
    memo: Memo = field(default_factory=Memo)

    def __len__(self) -> int:
        return len(self.inputs)

    def halved(self) -> "Subject":
        """The same subject with half the batch; what was computed is kept."""
        return replace(self, batch=max(self.batch // 2, 1))

    @contextmanager
    def open(self) -> Iterator[None]:
        """The model prepared for measuring, its forward passes counted; given back as it was."""
        with prepared(self.model), counted(self.model, self.memo.add):
            yield

    def segments(self, n: int) -> list[slice]:
        """The fixed pieces that together hold the first n samples."""
        edges = sorted({0, len(self), *(cut for cut in self.cuts if 0 < cut < len(self))})
        return [slice(a, b) for a, b in pairwise(edges) if a < n]

    def per_sample(self, key: Hashable, n: int, compute: Callable[[slice], Tensor]) -> Tensor:
        """`compute` of the first n samples, by segments, each kept under `key`."""
        parts = [self.memo.get(Segment(key, part.start), partial(compute, part)) for part in self.segments(n)]
        found: Tensor = torch.cat(parts)[:n]
        return found

    def logits(self, n: int, recipe: Recipe = ORIGINAL) -> Float[Tensor, "n k"]:
        """Logits of all classes under a recipe."""

        def compute(part: slice) -> Tensor:
            with self.changed(recipe) as model:
                return all_logits(model, self.inputs_of(part, recipe), self.batch)

        return self.per_sample(("logits", recipe), n, compute)

    def probabilities(self, n: int, recipe: Recipe = ORIGINAL) -> Float[Tensor, "n k"]:
        """Softmax probabilities of all classes under a recipe."""
        return self.logits(n, recipe).softmax(1)

    def clean(self, n: int) -> Float[Tensor, " n"]:
        """f_c(x) of each sample's target."""
        targets = self.targets[:n]
        return with_classes(self.probabilities(n), targets).gather(1, targets[:, None])[:, 0]

    def substrate(self, name: str, n: int) -> Float[Tensor, "n c h w"]:
        """What stands for removed pixels; a colour takes no memory, `random` is drawn from each sample's own generator."""
        if name not in PICTURES:
            return substrate(name, self.inputs[:n], self.space)

        def compute(part: slice) -> Tensor:
            inputs = self.inputs[part]
            if name == "blur":
                return substrate(name, inputs, self.space)
            share = draws.uniform(self.ids[part], tuple(inputs.shape[1:]), self.seed, "substrate", name)
            return self.space.between(share.to(inputs.device, inputs.dtype))

        return self.per_sample(("substrate", name), n, compute)

    def same_colour(self, name: str) -> str:
        """The first name of the same colour in this space, so that whatever is computed of one serves them all."""
        if name in PICTURES:
            return name
        wanted = self.space.colour(name, self.inputs)
        return next(other for other in COLOURS if torch.equal(self.space.colour(other, self.inputs), wanted))

    def bare(self, name: str, n: int) -> Float[Tensor, "n k"]:
        """Logits of the bare substrate; one forward pass serves all samples where it is a colour."""
        if name not in PICTURES:
            one = substrate(name, self.inputs[:1], self.space)
            row: Tensor = self.memo.get(("bare", self.same_colour(name)), lambda: all_logits(self.model, one, 1))
            return row.expand(n, -1)

        def compute(part: slice) -> Tensor:
            return all_logits(self.model, self.substrate(name, part.stop)[part], self.batch)

        return self.per_sample(("bare", name), n, compute)

    def removed(self, name: str, n: int) -> Float[Tensor, " n"]:
        """f_c of the bare substrate."""
        return self.bare(name, n).softmax(1).gather(1, self.targets[:n, None])[:, 0]

    def ties(self, n: int) -> Int[Tensor, "n p"]:
        """A random order of the pixels for each sample, which settles ties the same way for every map."""
        size = self.inputs.shape[2] * self.inputs.shape[3]

        def compute(part: slice) -> Tensor:
            return draws.permutations(self.ids[part], size, self.seed, "ties").to(self.inputs.device)

        return self.per_sample("ties", n, compute)

    @cached_property
    def layers(self) -> list[str]:
        """Layers with parameters, topmost first."""
        return weights.layers_from_top(self.model, self.inputs[:1])

    def inputs_of(self, part: slice, recipe: Recipe) -> Float[Tensor, "m c h w"]:
        """Some samples' inputs under a recipe."""
        make = recipe.make if isinstance(recipe, Inputs | Network) else None
        found: Tensor = make(self, part) if make else self.inputs[part]
        return found

    def targets_of(self, part: slice, recipe: Recipe) -> Int[Tensor, " m"]:
        """The class explained of some samples under a recipe; a model of other classes explains the one that it predicts."""
        if isinstance(recipe, Sibling) and recipe.kind == "scene":
            return self.logits(part.stop, recipe)[part].argmax(1)
        found: Tensor = recipe.choose(self, part) if isinstance(recipe, Targets) else self.targets[part]
        return found

    def sibling(self, recipe: Sibling) -> nn.Module:
        """A sibling of the model.

        Raises:
            CardgenError: it is not there.
        """
        if recipe not in self.siblings:
            raise CardgenError(
                f"needs the sibling model {recipe.name}; expected it among the subject's siblings, got none of that name; name one under "
                f"`siblings:` in cardgen.yaml, or give siblings="
            )
        return self.siblings[recipe]

    @contextmanager
    def changed(self, recipe: Recipe) -> Iterator[nn.Module]:
        """The model under a recipe."""
        if isinstance(recipe, Network):
            other = self.memo.get(("network", recipe.name), lambda: recipe.build(self.model, self.inputs[:1]))
            with prepared(other):
                yield other
            return
        if isinstance(recipe, Sibling):
            other = self.sibling(recipe)
            with prepared(other), counted(other, self.memo.add):
                yield other
            return
        with ExitStack() as stack:
            if isinstance(recipe, Weights):
                if recipe.jitter:
                    stack.enter_context(
                        weights.changed(self.model, weights.jitter(self.model, recipe.jitter, self.seed))
                    )
                alone = () if recipe.only is None else (recipe.only,)
                for layer in (*self.layers[: recipe.reset], *alone):
                    fresh = self.memo.get(
                        ("reset", layer, recipe.draw),
                        partial(weights.reset, self.model, layer, self.seed, recipe.draw),
                    )
                    stack.enter_context(weights.changed(self.model, fresh))
            yield self.model

    @cached_property
    def features(self) -> str:
        """The layer that methods of class activation take: the one that was named, or the last convolutional features."""
        with prepared(self.model):
            return self.layer or last_features(self.model, self.inputs[:1])

    @cached_property
    def channels(self) -> int:
        """How many feature maps that layer has."""
        with prepared(self.model):
            return channels(self.model, self.inputs[:1], self.features)

    @cached_property
    def mean_mask(self) -> Float[Tensor, "h w"] | None:
        """How often each pixel belongs to the object."""
        return None if self.masks is None else self.masks.float().mean(0)

    def features_of(self, recipe: Recipe) -> str:
        """That layer of the model under a recipe: of the same name, or found in a sibling that has none such."""
        if not isinstance(recipe, Sibling) or self.features in dict(self.sibling(recipe).named_modules()):
            return self.features

        def find() -> str:
            with prepared(self.sibling(recipe)):
                return last_features(self.sibling(recipe), self.inputs[:1])

        found: str = self.memo.get(("features", recipe), find)
        return found

    def context(self, part: slice, seed: int, method: Method, recipe: Recipe = ORIGINAL) -> Context:
        """What a method gets to know of some samples."""
        masks = None if self.masks is None else self.masks[part]
        layer = self.features_of(recipe) if method.entry.access == "features" else self.layer
        masker = next((self.siblings.get(sibling) for sibling in method.siblings), None)
        return Context(self.ids[part], seed, self.space, self.batch, masks, layer, self.mean_mask, masker)


class StudyKey(NamedTuple):
    """A memo key of something that belongs to one method, as opposed to the subject."""

    what: Hashable
    method: Hashable


@dataclass(frozen=True, eq=False)
class Study:
    """One method on the first n samples of a subject: all that a metric ever sees.

    Either `method` explains, as often as asked; or `given` maps are all there is, and metrics that must explain again say so.
    """

    subject: Subject
    n: int
    method: Method | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)
    given: Float[Tensor, "n h w"] | None = None

    def first(self, n: int) -> "Study":
        """The same study on fewer samples; results are shared."""
        return replace(self, n=min(n, self.n))

    @property
    def identity(self) -> Hashable:
        """What the method's maps depend on beside the subject and a recipe."""
        if self.method is None:
            # the memo keeps the maps alive, so that their id stays theirs alone
            self.subject.memo.get(("given", id(self.given)), lambda: self.given)
            return ("given", id(self.given))
        return (self.method.entry.key, tuple(sorted(self.parameters.items())))

    def explainer(self) -> Method:
        """The method, for metrics that explain again.

        Raises:
            CardgenError: there are only maps.
        """
        if self.method is None:
            raise CardgenError(
                "this metric explains again, under other weights, seeds or inputs; it got maps= only; pass method= instead"
            )
        return self.method

    def explain(self, part: slice, recipe: Recipe = ORIGINAL) -> Float[Tensor, "m _ h w"]:
        """Attributions of some samples under a recipe, computed anew."""
        method, subject = self.explainer(), self.subject
        seed = (
            draws.seed_of(subject.seed, "reseed", recipe.draw)
            if isinstance(recipe, Reseed) and recipe.draw
            else subject.seed
        )
        context = subject.context(part, seed, method, recipe)
        return self._explained(subject.inputs_of(part, recipe), subject.targets_of(part, recipe), context, recipe)

    def _explained(self, inputs: Tensor, targets: Tensor, context: Context, recipe: Recipe) -> Float[Tensor, "m _ h w"]:
        """Attributions of inputs to the model under a recipe."""
        method, subject = self.explainer(), self.subject
        network = recipe if isinstance(recipe, Network | Sibling) else ORIGINAL
        if isinstance(recipe, Network):
            context = recipe.told(context)
        with subject.changed(recipe) as model:
            # of another network it is asked what the method needs, not what it declares
            check = method.fits if isinstance(recipe, Network) else partial(require_fit, method)
            fits = partial(check, model, subject.inputs[:1])
            subject.memo.get(("fits", method.entry.key, network), fits)
            return attributions(method, model, inputs, targets, context, self.parameters)

    def explain_rows(
        self, rows: Int[Tensor, " m"], labels: Int[Tensor, " m"], recipe: Recipe = ORIGINAL
    ) -> Float[Tensor, "m _ h w"]:
        """Attributions of some samples, by their numbers, each for a label of its own."""
        method, subject = self.explainer(), self.subject
        ids = tuple(subject.ids[i] for i in rows.tolist())
        masks = None if subject.masks is None else subject.masks[rows]
        context = replace(subject.context(slice(0, 0), subject.seed, method, recipe), ids=ids, masks=masks)
        return self._explained(subject.inputs[rows], labels, context, recipe)

    def maps_of(self, rows: Int[Tensor, " m"], labels: Int[Tensor, " m"]) -> Float[Tensor, "m h w"]:
        """Maps of some samples, each for a label of its own; those of the class explained are the study's maps."""
        self.explainer()
        found, other = self.maps()[rows], labels != self.subject.targets[rows]
        if not other.any():
            return found
        found[other] = self.map_of(self.explain_rows(rows[other], labels[other]))
        return found

    def attributions(self, recipe: Recipe = ORIGINAL) -> Float[Tensor, "n _ h w"]:
        """The method's attributions as they are, before its reduction, under a recipe."""
        key = StudyKey(("attributions", recipe), self.identity)
        return self.subject.per_sample(key, self.n, partial(self.explain, recipe=recipe))

    def maps(self, recipe: Recipe = ORIGINAL) -> Float[Tensor, "n h w"]:
        """The method's maps under a recipe: attributions after the method's declared reduction."""
        if self.given is not None and isinstance(recipe, Original):
            return self.given[: self.n]
        reduction = self.method.entry.reduction if self.method else "sum"

        def compute(part: slice) -> Tensor:
            # those of whole networks serve metrics that read attributions too
            shared = isinstance(recipe, Original | Sibling)
            found = self.upto(part.stop).attributions(recipe)[part] if shared else self.explain(part, recipe)
            return reduced(found, reduction)

        return self.subject.per_sample(StudyKey(("maps", recipe), self.identity), self.n, compute)

    def map_of(self, attributions: Float[Tensor, "m _ h w"]) -> Float[Tensor, "m h w"]:
        """The method's declared reduction."""
        return reduced(attributions, self.method.entry.reduction if self.method else "sum")

    def flat(self) -> Bool[np.ndarray, " n"]:
        """Which maps are constant."""
        found: Bool[np.ndarray, " n"] = is_flat(self.maps()).cpu().numpy()
        return found

    def order(self) -> Int[Tensor, "n p"]:
        """Pixels from most to least salient; ties in the sample's own random order."""

        def compute(part: slice) -> Tensor:
            return ordered(replace(self, n=part.stop).maps()[part], self.subject.ties(part.stop)[part])

        return self.subject.per_sample(StudyKey("order", self.identity), self.n, compute)

    def memo(self, key: Hashable, compute: Callable[[slice], Tensor]) -> Tensor:
        """Something else a sample, kept under `key` for this method."""
        return self.subject.per_sample(StudyKey(key, self.identity), self.n, compute)

    def upto(self, n: int) -> "Study":
        """The same study on another number of samples."""
        return replace(self, n=n)


def ordered(maps: Float[Tensor, "n h w"], ties: Int[Tensor, "n p"]) -> Int[Tensor, "n p"]:
    """Pixels from most to least salient; those of one value as `ties` has them."""
    return ties.gather(1, descending(maps.flatten(1).gather(1, ties)))


def descending(values: Float[Tensor, "n p"]) -> Int[Tensor, "n p"]:
    """The order of each row from its largest value to its smallest; equal values keep their places.

    On CPUs float32 is sorted by its bits, read as integers that order alike: the same order, four times as fast at 224².
    """
    if values.is_cuda or values.dtype != torch.float32:
        return values.argsort(dim=1, descending=True, stable=True)
    bits = (values.neg() + 0.0).view(torch.int32)
    keys = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return torch.stack([row.sort(stable=True).indices for row in keys])
