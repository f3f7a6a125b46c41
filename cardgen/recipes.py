"""Named changes of what is explained. A recipe is the memo's key, so its fields, or its name, say all that its maps depend on."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any


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


Recipe = Original | Reseed | Weights | Network | Inputs | Targets
ORIGINAL = Original()
