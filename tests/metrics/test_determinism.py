"""Determinism against its slow reference, on methods whose maps are known."""

import numpy as np
import pytest
import torch
from homes import at_home
from reference import maps as reference
from small_models import every_batch_and_order, untouched

from cardgen import measure
from cardgen.errors import CardgenError
from cardgen.maskers import KINDS
from cardgen.methods import METHODS, Method
from cardgen.metrics import METRICS
from cardgen.records import MethodEntry, Source
from cardgen.study import Study, Subject


def scripted(small, runs):
    """The metric on a method whose k-th call returns the k-th of `runs`, each [n, h, w]; and the seeds that it was called with."""
    calls, seeds = iter(runs), []

    def method(model, inputs, targets, context):
        seeds.append(context.seed)
        return next(calls)[:, None]

    source = Source(paper="", url="")
    entry = MethodEntry(
        key="scripted", title="Scripted", source=source, access="none", reduction="sum", signed=False, random=True
    )
    ids = tuple(map(str, range(len(small.inputs))))
    subject = Subject(small.model, small.inputs, small.targets, ids, batch=100)
    study = Study(subject, len(subject), Method(entry, method, lambda p: 0))
    return METRICS["determinism"].measure(study, {"runs": len(runs)}), seeds


def rough(small, runs=4):
    draws = torch.Generator().manual_seed(2)
    return [small.maps + 0.3 * torch.rand(small.maps.shape, generator=draws) for _ in range(runs)]


def lowest(runs, similarity=reference.lowest_spearman):
    return [similarity([run[i] for run in runs]) for i in range(7)]


def test_agrees_with_the_reference(tiny):
    runs = rough(tiny)
    scores, seeds = scripted(tiny, [*runs, tiny.maps])
    used = [*runs, tiny.maps]
    assert scores.values == pytest.approx(lowest(used), abs=1e-9)
    assert scores.reported["min_spearman"] == pytest.approx(min(lowest(used)), abs=1e-9)
    pairs = [
        reference.relative_difference(a[i], b[i]) for i in range(7) for k, a in enumerate(used) for b in used[k + 1 :]
    ]
    assert scores.reported["max_relative_difference"] == pytest.approx(max(pairs), rel=1e-6)
    assert scores.reported["identical"] is False
    assert scores.reported["runs"] == 5
    assert len(set(seeds[:5])) == 5, "seeds must differ"


def test_by_hand(tiny):
    # Two runs that rank four pixels 1 2 3 4 and 1 2 4 3, all else alike: ρ = 1 − 6·2/(n(n²−1)), n = 120 pixels.
    one = torch.arange(120.0).view(1, 12, 10).repeat(7, 1, 1)
    other = one.clone()
    other[:, 11, 8], other[:, 11, 9] = 119.0, 118.0
    scores, _ = scripted(tiny, [one, other])
    assert scores.values == pytest.approx(np.full(7, 1 - 12 / (120 * (120**2 - 1))), abs=1e-12)
    # ‖A − B‖ = √2, ‖A‖² = Σ k² = 119·120·239/6
    assert scores.reported["max_relative_difference"] == pytest.approx((2 / (119 * 120 * 239 / 6)) ** 0.5)


def test_a_map_of_zeros_in_one_run_differs_wholly(tiny):
    scores, _ = scripted(tiny, [torch.zeros_like(tiny.maps), 1e9 * tiny.maps])
    assert scores.values.tolist() == [0.0] * 7
    assert scores.reported["max_relative_difference"] == 1


MUTATIONS = {
    "the mean over pairs": lambda runs: np.mean([reference.spearman(a, b) for a in runs for b in runs if a is not b]),
    "against the first run only": lambda runs: min(reference.spearman(runs[0], b) for b in runs[1:]),
    "the highest": lambda runs: max(reference.spearman(a, b) for a in runs for b in runs if a is not b),
    "linear correlation": lambda runs: min(
        reference.pearson(reference.pixels(a), reference.pixels(b)) for a in runs for b in runs if a is not b
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    runs = rough(tiny)
    scores, _ = scripted(tiny, runs)
    assert np.abs(scores.values - lowest(runs, MUTATIONS[name])).max() > 1e-3


@pytest.mark.parametrize("method", ["vanilla_gradients", "integrated_gradients", "grad_cam", "constant", "edges"])
def test_deterministic_methods(tiny, method):
    scores = measure("determinism", *tiny.call, method=method)
    assert scores.values == pytest.approx(np.ones(7))
    assert scores.reported["identical"] is True
    assert scores.reported["max_relative_difference"] == 0
    assert scores.reason == "Deterministic: 5 runs with different seeds gave identical maps."


@pytest.mark.parametrize(("method", "parameters"), [("rise", {"n_masks": 30}), ("noise", {}), ("noise_4", {})])
def test_random_methods(tiny, method, parameters):
    scores = measure("determinism", *tiny.call, method=method, method_params=parameters)
    assert scores.values.max() < 0.9
    assert scores.reported["identical"] is False
    assert scores.reason == (
        f"Not deterministic: 5 runs with different seeds gave maps that agree in rank to "
        f"{scores.values.min():.2f} at worst (Spearman)."
    )


def test_more_masks_make_rise_more_alike(tiny):
    few, many = (
        measure("determinism", *tiny.call, method="rise", method_params={"n_masks": n}).values.mean()
        for n in (30, 1000)
    )
    assert few + 0.1 < many


FEW = {"n_masks": 20, "n_samples": 3, "n_perturbations": 20, "iterations": 3, "removals": 5, "updates": 3, "cells": 3}


def test_every_random_method_says_that_it_is():
    for key, method in METHODS.items():
        if key in KINDS:
            continue  # measure has no masking network to give them
        parameters = {name: value for name, value in FEW.items() if name in method.defaults}
        small = at_home(key)
        scores = measure("determinism", *small.call, method=key, masks=small.masks, method_params=parameters, runs=2)
        assert scores.reported["identical"] is not method.entry.random, key


def test_own_maps_cannot_be_made_again(tiny):
    with pytest.raises(CardgenError, match="pass method= instead"):
        measure("determinism", *tiny.call, maps=tiny.maps)


@pytest.mark.parametrize("runs", [0, 1])
def test_one_run_compares_with_nothing(tiny, runs):
    with pytest.raises(CardgenError, match="runs"):
        measure("determinism", *tiny.call, method="noise", runs=runs)


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        return measure("determinism", *tiny.take(rows).call, method="noise_7", batch=batch).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        measure("determinism", *tiny.call, method="rise", method_params={"n_masks": 4})
