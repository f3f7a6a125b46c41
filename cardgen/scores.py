"""What a metric returns: one number a sample, and what a decision rule or a reader needs beside it."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cardgen.records import Curve, Value


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of n samples.

    Attributes:
        values: float64 [n], never NaN; meaningless where not `valid`.
        valid: bool [n], false where the quantity does not exist for that sample (a flat map has no sparsity, an empty mask no hit).
        flat: bool [n], where the method's map is constant; decides how a missing value counts (see METRICS: flat maps).
        parts: arrays whose last axis is the sample's, for rules that need more than one number a sample (similarity a
            re-initialisation, for example).
        reported: further numbers or words for the reader.
        curve: a mean curve for the reader.
        timing: measured seconds and memory; provenance, since no two runs agree on them.
        passes: samples forwarded for these scores.
        reason: the finding in a sentence, for metrics that no rule decides; the rule of axioms adds it to its own.
    """

    values: Float[np.ndarray, " n"]
    valid: Bool[np.ndarray, " n"]
    flat: Bool[np.ndarray, " n"]
    parts: Mapping[str, Float[np.ndarray, "..."]] = field(default_factory=dict)
    reported: Mapping[str, Value] = field(default_factory=dict)
    curve: Curve | None = None
    timing: Mapping[str, Value] = field(default_factory=dict)
    passes: int = 0
    reason: str = ""

    def __post_init__(self) -> None:
        arrays = [self.values[self.valid], *self.parts.values()]
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError(
                "scores hold NaN or infinities; expected finite numbers, with valid=False where there is none"
            )

    def with_passes(self, passes: int) -> "Scores":
        """The same scores with the count of samples forwarded."""
        return replace(self, passes=passes)

    def take(self, rows: Int[np.ndarray, " m"]) -> "Scores":
        """The scores of some of the samples; what is said of all of them together is left out."""
        parts = {name: part[..., rows] for name, part in self.parts.items()}
        return Scores(self.values[rows], self.valid[rows], self.flat[rows], parts)

    def dumps(self) -> bytes:
        """The content of an npz file that `loads` reads back."""
        extra = {
            "reported": dict(self.reported),
            "curve": self.curve.model_dump() if self.curve else None,
            "timing": dict(self.timing),
            "passes": self.passes,
            "reason": self.reason,
        }
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {f"part_{name}": array for name, array in self.parts.items()}
        np.savez_compressed(
            buffer,
            values=self.values,
            valid=self.valid,
            flat=self.flat,
            extra=np.array(json.dumps(extra, allow_nan=False)),
            **arrays,
        )
        return buffer.getvalue()

    @classmethod
    def loads(cls, data: bytes) -> "Scores":
        """Scores from the content of an npz file."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            extra = json.loads(str(file["extra"]))
            parts = {name.removeprefix("part_"): file[name] for name in file.files if name.startswith("part_")}
            curve = extra.pop("curve")
            return cls(
                file["values"], file["valid"], file["flat"], parts, curve=Curve(**curve) if curve else None, **extra
            )
