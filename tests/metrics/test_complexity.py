"""Complexity against its slow reference and by hand."""

import math

import numpy as np
import pytest
import torch
from reference import maps as reference
from small_models import Linear, every_batch_and_order, untouched

from cardgen import measure

KEY = "complexity"


def test_agrees_with_the_reference(tiny):
    for signed in (tiny.maps, tiny.maps - 0.5, -1e-6 * tiny.maps, 1e8 * tiny.maps**9, 1e-38 * tiny.maps):
        found = measure(KEY, *tiny.call, maps=signed)
        assert found.values == pytest.approx([reference.complexity(m) for m in signed], rel=1e-9)
        assert found.valid.all()


def test_by_hand(tiny):
    # One pixel: 0 bits. Two alike, of either sign: 1 bit of log₂ 120. Magnitudes 2, 1, 1: ½·1 + 2·¼·2 = 1.5 bits. 120 alike: all of them.
    maps = torch.zeros(7, 12, 10)
    maps[0, 3, 4] = -9.0
    maps[1, 0, 0], maps[1, 11, 9] = 5.0, -5.0
    maps[2, 0, :3] = torch.tensor([2.0, -1.0, 1.0])
    maps[3:] = -0.25
    whole = math.log2(120)
    assert measure(KEY, *tiny.call, maps=maps).values == pytest.approx([0, 1 / whole, 1.5 / whole, 1, 1, 1, 1])


MUTATIONS = {
    "not normalised": lambda m: reference.complexity(m) * math.log2(120),
    "natural logarithm over bits": lambda m: reference.complexity(m) * math.log(2),
    "of the values above the minimum": lambda m: reference.complexity(m - m.min()),
    "of the positive part": lambda m: reference.complexity(m.clamp_min(0)),
    "of the squares": lambda m: reference.complexity(m**2),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    signed = tiny.maps - 0.3
    found = measure(KEY, *tiny.call, maps=signed).values
    assert np.abs(found - [MUTATIONS[name](m) for m in signed]).max() > 0.01


def test_normalising_over_the_batch_would_be_seen(tiny):
    shares = tiny.maps.double() / tiny.maps.double().sum()
    wrong = [-(s * s.log2()).sum().item() / math.log2(120) for s in shares]
    assert np.abs(measure(KEY, *tiny.call, maps=tiny.maps).values - wrong).min() > 0.1


def test_a_map_of_zeros_has_none_and_other_flat_maps_have_the_most(tiny):
    maps = tiny.maps.clone()
    maps[2], maps[5] = 0.0, -3.5
    found = measure(KEY, *tiny.call, maps=maps)
    assert found.valid.tolist() == [True, True, False, True, True, True, True]
    assert found.flat.tolist() == [False, False, True, False, False, True, False]
    assert found.values[5] == pytest.approx(1)
    assert np.isfinite(found.values).all()


def test_one_pixel_has_no_range_of_bits():
    found = measure(
        KEY, Linear(torch.ones(3, 1, 1)), torch.rand(2, 3, 1, 1), torch.tensor([0, 1]), maps=torch.ones(2, 1, 1)
    )
    assert not found.valid.any()


def test_more_blur_is_more_complex(tiny):
    spike = torch.zeros(7, 12, 10)
    spike[:, 5, 5] = 1.0
    blurs = [torch.nn.functional.avg_pool2d(spike, size, 1, size // 2) for size in (1, 3, 5)]
    means = [measure(KEY, *tiny.call, maps=blur).values.mean() for blur in blurs]
    assert means == pytest.approx([0, math.log2(9) / math.log2(120), math.log2(25) / math.log2(120)])


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure(KEY, *some.call, maps=some.maps, batch=batch).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
        measure(KEY, *tiny.call, maps=tiny.maps)
