"""Average drop in deletion: what tests/metrics/test_average_drop.py does not say of it already."""

import pytest
import torch
from small_models import Share

from cardgen import measure

KEY = "average_drop_deletion"


def test_by_hand():
    # f_0 = 0.6 a + 0.2 b on an image of ones, 0.8. Hidden where the map is 1: a leaves 0.2, a drop of 0.6 / 0.8; b one of 0.2 / 0.8.
    model, images = Share([[[0.6, 0.2]]]), torch.ones(2, 1, 1, 2)
    found = measure(
        KEY, model, images, torch.tensor([0, 0]), maps=torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]), noise_draws=3
    )
    assert found.values == pytest.approx([0.75, 0.25], abs=1e-6)
    # of two pixels each order of noise is one of the two
    for part in found.parts.values():
        assert all(any(abs(v - right) < 1e-6 for right in (0.75, 0.25)) for v in part.flatten())


def test_almost_nothing_but_ones_hides_almost_all_and_its_own_values_do_as_well():
    generator = torch.Generator().manual_seed(0)
    images, maps = torch.rand(20, 1, 8, 8, generator=generator), torch.ones(20, 8, 8)
    maps[:, 0, 0] = 0.0
    model = Share(torch.full((1, 8, 8), 1 / 64))
    found = measure(KEY, model, images, torch.zeros(20, dtype=torch.int64), maps=maps, noise_draws=3)
    assert found.values.min() > 0.9
    assert all(abs(part.mean() - found.values.mean()) < 0.02 for part in found.parts.values())
