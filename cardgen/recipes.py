"""Named changes of what is explained. A recipe is the memo's key, so it says all that its maps depend on."""

from dataclasses import dataclass


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

    `draw` counts re-initialisations.
    """

    reset: int = 0
    jitter: float = 0.0
    draw: int = 0


Recipe = Original | Reseed | Weights
ORIGINAL = Original()
