"""Sparsity against its slow reference and by hand."""

import numpy as np
import pytest
import torch
from reference import maps as reference
from small_models import every_batch_and_order, untouched

from cardgen import measure


def test_agrees_with_the_reference(tiny):
    for signed in (tiny.maps, tiny.maps - 0.5, -1e-6 * tiny.maps, 1e8 * tiny.maps**3):
        found = measure("sparsity", *tiny.call, maps=signed)
        assert found.values == pytest.approx([reference.sparsity(m) for m in signed], rel=1e-9)
        assert found.valid.all()


def test_by_hand(tiny):
    # one pixel of 120 lit: 1/(1/120) = 120. A map from 2 to 4, half and half: normalised 0 and 1, mean ½, so 2.
    maps = torch.zeros(7, 12, 10)
    maps[0, 3, 4] = 9.0
    maps[1:, :, :5] = 2.0
    maps[1:, :, 5:] = 4.0
    assert measure("sparsity", *tiny.call, maps=maps).values == pytest.approx([120, 2, 2, 2, 2, 2, 2])


MUTATIONS = {
    "not normalised": lambda m: m.max().item() / m.double().mean().item(),
    "by the magnitude": lambda m: reference.sparsity(m.abs()),
    "over the minimum": lambda m: m.max().item() / m.min().item(),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    signed = tiny.maps - 0.3
    found = measure("sparsity", *tiny.call, maps=signed).values
    assert np.abs(found - [MUTATIONS[name](m) for m in signed]).max() > 0.1


def test_normalising_over_the_batch_would_be_seen(tiny):
    scaled = tiny.maps * torch.arange(1, 8).view(7, 1, 1) - 0.1
    low, high = scaled.min(), scaled.max()
    wrong = [((m - low) / (high - low)).max().item() / ((m - low) / (high - low)).mean().item() for m in scaled]
    found = measure("sparsity", *tiny.call, maps=scaled).values
    assert np.abs(found - wrong).max() > 0.01


def test_a_flat_map_has_none(tiny):
    maps = tiny.maps.clone()
    maps[2], maps[5] = 0.0, -3.5
    found = measure("sparsity", *tiny.call, maps=maps)
    assert (~found.valid).nonzero()[0].tolist() == [2, 5]
    assert np.isfinite(found.values).all()
    kept = np.array([0, 1, 3, 4, 6])
    assert found.values[kept] == pytest.approx(measure("sparsity", *tiny.call, maps=tiny.maps).values[kept])


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure("sparsity", *some.call, maps=some.maps, batch=batch).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
        measure("sparsity", *tiny.call, maps=tiny.maps)
