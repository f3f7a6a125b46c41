"""Budgets: how many samples and Monte Carlo draws a run takes. Never what is measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cardgen.records import Value

BudgetName = Literal["quick", "standard", "full"]


@dataclass(frozen=True)
class Again:
    """What metrics that explain again may take of methods beyond core: samples, forwards a map, and sizes for methods that take more."""

    samples: int
    passes: int
    method: Mapping[str, Value]


@dataclass(frozen=True)
class Budget:
    """Sample counts by the kind of metric, draws of each noise control, and Monte Carlo sizes by the parameter's name.

    A kind that has no count is beyond the budget.
    """

    samples: Mapping[str, int]
    draws: int
    metric: Mapping[str, Value]
    method: Mapping[str, Value]
    again: Again | None = None


BUDGETS: Mapping[str, Budget] = {
    "quick": Budget(
        {"maps": 64, "again": 40, "few": 8},
        3,
        {"reinitialisations": 3, "curve_samples": 8, "perturbations": 250, "noise_draws": 3, "draws": 5},
        {"n_masks": 500, "n_samples": 16, "stride": 0.125, "n_perturbations": 500}
        | {"iterations": 100, "backgrounds": 1, "removals": 100, "updates": 9, "points": 4},
        Again(24, 300, {"n_samples": 6, "n_perturbations": 250, "cells": 4}),
    ),
    "standard": Budget(
        {"maps": 200, "again": 100, "few": 16},
        5,
        {"reinitialisations": 5, "curve_samples": 8, "perturbations": 1000, "noise_draws": 5, "draws": 10},
        {"n_masks": 2000, "n_samples": 32, "stride": 0.0625, "n_perturbations": 1000}
        | {"iterations": 300, "backgrounds": 3, "removals": 250, "updates": 20, "points": 8},
    ),
    "full": Budget(
        {"maps": 500, "again": 200, "few": 32, "retrained": 500},
        5,
        {"reinitialisations": 5, "curve_samples": 16, "perturbations": 1000, "noise_draws": 5, "draws": 10},
        {"n_masks": 4000, "n_samples": 50, "stride": 0.0625},
    ),
}
RANK = {name: rank for rank, name in enumerate(BUDGETS)}
CORE = (
    "vanilla_gradients",
    "input_x_gradient",
    "integrated_gradients",
    "smoothgrad",
    "guided_backprop",
    "grad_cam",
    "occlusion",
    "rise",
)
"""The methods that `core` names, as far as they are built."""


def sized(defaults: Mapping[str, Value], sizes: Mapping[str, Value]) -> dict[str, Value]:
    """The sizes of a budget for those parameters that a plug-in has."""
    return {name: value for name, value in sizes.items() if name in defaults}
