"""Named changes of what is explained. A recipe is the memo's key, so its fields, or its name, say all that its maps depend on."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from cardgen.errors import CardgenError


@dataclass(frozen=True)
class Original:
    """Nothing changed."""


@dataclass(frozen=True)
class Reseed:
    """The method run with another seed; `draw` counts them, and 0 is the run's own seed."""

    draw: int


@dataclass(frozen=True)
class Weights:
    """Changed weights: the topmost `reset` layers re-initialised, and every weight jittered by a relative Gaussian of scale `jitter`.

    `only` names one layer that is re-initialised beside them. `draw` counts re-initialisations.
    """

    reset: int = 0
    jitter: float = 0.0
    draw: int = 0
    only: str | None = None


@dataclass(frozen=True)
class Network:
    """Another network in the model's place: `build` makes it of the model and one sample, once a subject.

    `make` gives the inputs that go with it, as those of `Inputs`; `told` changes what a method gets to know of them (its context).
    """

    name: Hashable
    build: Callable[[Any, Any], Any] = field(compare=False)
    make: Callable[[Any, slice], Any] | None = field(default=None, compare=False)
    told: Callable[[Any], Any] = field(default=lambda context: context, compare=False)


@dataclass(frozen=True)
class Inputs:
    """Other inputs: `make` gives them for a subject and a slice of its samples, of the shape of the original ones."""

    name: Hashable
    make: Callable[[Any, slice], Any] = field(compare=False)


@dataclass(frozen=True)
class Targets:
    """Another class explained: `choose` gives it for a subject and a slice of its samples."""

    name: Hashable
    choose: Callable[[Any, slice], Any] = field(compare=False)


@dataclass(frozen=True)
class Sibling:
    """Another trained model in the model's place: `kind` says how they are related, `variant` tells those of one kind apart.

    Kinds: `seed` (trained again), `random-labels`, `architecture`, `scene` (on the same images, to name what is behind the object),
    `compressed` (pruned, int8), `masker` (a masking network, by the key of its method).
    """

    kind: str
    variant: int | str = ""

    @property
    def name(self) -> str:
        """As in cardgen.yaml, in files and in records: seed-1."""
        return f"{self.kind}-{self.variant}" if self.variant != "" else self.kind


KINDS = ("seed", "random-labels", "architecture", "scene", "compressed", "masker")


def sibling(name: str) -> Sibling:
    """The sibling of a name.

    Raises:
        CardgenError: a name of no kind, or none that says which of its kind.
    """
    kind = next((kind for kind in KINDS if name == kind or name.startswith(f"{kind}-")), "")
    variant = name.removeprefix(kind).removeprefix("-")
    if not kind or (kind == "seed" and not variant.isdecimal()):
        raise CardgenError(
            f"sibling {name!r}; expected seed-1 or another number, random-labels, architecture, scene, compressed-pruned, compressed-int8, "
            "or masker-METHOD; mend the name"
        )
    return Sibling(kind, int(variant) if variant.isdecimal() else variant)


Recipe = Original | Reseed | Weights | Network | Sibling | Inputs | Targets
ORIGINAL = Original()
