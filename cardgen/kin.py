"""The sibling models that are there, and why others are not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from cardgen.digests import SHORT, digest
from cardgen.recipes import Sibling


@dataclass(frozen=True, eq=False)
class Kin:
    """A sibling that is there.

    Attributes:
        module: takes the same inputs as the model, on its device and in its type.
        digest: of its weights.
        accuracy: the share that it gets right of what it was to learn, in [0, 1]; None where that is not known.
        source: where it comes from, for people.
    """

    module: nn.Module
    digest: str
    accuracy: float | None
    source: str


@dataclass(frozen=True, eq=False)
class Family:
    """The siblings that were found, and for others the reason why there is no verdict with them."""

    found: Mapping[Sibling, Kin] = field(default_factory=dict)
    missing: Mapping[Sibling, str] = field(default_factory=dict)

    @property
    def modules(self) -> dict[Sibling, nn.Module]:
        """What a subject gets of them."""
        return {sibling: kin.module for sibling, kin in self.found.items()}

    def reason(self, needed: Sequence[Sibling]) -> str:
        """Why one of these cannot be compared with; empty where all are there."""
        for sibling in needed:
            if sibling not in self.found:
                return self.missing.get(sibling, f"needs the sibling model {sibling.name}, which was not looked for")
        return ""

    def part(self, needed: Sequence[Sibling]) -> str:
        """The part of a key that says which ones were compared with."""
        return digest([[sibling.name, self.found[sibling].digest] for sibling in needed])[:SHORT]

    def told(self, needed: Sequence[Sibling]) -> dict[str, float]:
        """The accuracies that they reached, for a record."""
        known = {sibling.name: self.found[sibling].accuracy for sibling in needed if sibling in self.found}
        return {f"{name} accuracy": accuracy for name, accuracy in known.items() if accuracy is not None}
