"""The bars of all decision rules. Changing one decides again from stored scores; nothing is measured again."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Thresholds(BaseModel):
    """Each can be set in cardgen.yaml under `thresholds`.

    Attributes:
        effect: standardised effect that a method must have over every noise control.
        probability: least mean difference of scores that are probabilities.
        correlation: least mean difference of scores that are correlations.
        similar: below this, maps of different models count as different.
        same: above this, they count as the same.
        gap: by how much a method must be more similar to itself than to another model.
        tolerance: largest relative error at which an axiom holds for a sample.
        share: of samples for which an axiom must hold.
        margin: how many times as much as the image's own magnitude a map may change; without one, changes are described.
        reliability: Krippendorff's α below which people's ratings give no verdict.
        samples: with fewer, no verdict is more than inconclusive.
        flat: share of flat maps above which nothing passes.
        resamples: of the bootstrap.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    effect: float = Field(default=0.2, ge=0)
    probability: float = Field(default=0.01, ge=0, le=1)
    correlation: float = Field(default=0.05, ge=0, le=2)
    similar: float = Field(default=0.3, ge=-1, le=1)
    same: float = Field(default=0.5, ge=-1, le=1)
    gap: float = Field(default=0.2, ge=0)
    tolerance: float = Field(default=0.05, ge=0)
    share: float = Field(default=0.9, gt=0, lt=1)
    margin: float | None = Field(default=None, gt=0)
    reliability: float = Field(default=0.667, ge=-1, le=1)
    samples: int = Field(default=20, ge=2)
    flat: float = Field(default=0.1, ge=0, le=1)
    resamples: int = Field(default=10_000, ge=100)


DEFAULTS = Thresholds()
