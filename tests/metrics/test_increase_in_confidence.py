"""Increase in confidence: what tests/metrics/test_average_drop.py does not say of it already."""

import numpy as np
import pytest
import torch
from small_models import Share

from cardgen import measure

KEY = "increase_in_confidence"


def test_by_hand():
    # f_1 = 1 − f_0; f_0 is half the light of the right half. Hiding light on the right raises f_1, hiding it on the left does nothing.
    model, images = Share([[[0.0, 0.5]]]), torch.ones(4, 1, 1, 2)
    maps = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 1.0]]])
    found = measure(KEY, model, images, torch.tensor([1, 1, 0, 0]), maps=maps, noise_draws=1)
    assert found.values.tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(("gain", "counts"), [(2e-6, 0), (5e-5, 1), (-5e-5, 0)])
def test_rounding_is_no_increase(gain, counts):
    # f_1 = 1 − 0.5 a − b/2; hiding b, which is 2 · gain, raises it by the gain
    images = torch.tensor([[[[1.0, 1.0]]]])
    model = Share([[[0.5 - abs(gain), abs(gain)]]])
    target = 1 if gain > 0 else 0
    maps = torch.tensor([[[1.0, 0.0]]])
    found = measure(KEY, model, images, torch.tensor([target]), maps=maps, noise_draws=1)
    assert found.values.tolist() == [counts]
    assert np.isin(found.parts["matched/noise"], (0, 1)).all()
