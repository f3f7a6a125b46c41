"""Planted truth against Quantus 0.6, whose AUC is the same area where maps are taken as they are."""

import warnings

import numpy as np
import pytest

from cardgen import explain, measure

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    quantus = pytest.importorskip("quantus")

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _old_name(monkeypatch):
    if not hasattr(np, "trapz"):  # gone since NumPy 2.4
        monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)


def theirs(small, maps, *, magnitude=False):
    metric = quantus.AUC(abs=magnitude, normalise=False, disable_warnings=True)
    arrays = {"x_batch": small.inputs.numpy(), "y_batch": small.targets.numpy(), "a_batch": maps[:, None].numpy()}
    masks = small.masks[:, None].numpy()
    return np.array(metric(model=small.model, s_batch=masks, channel_first=True, device="cpu", **arrays), dtype=float)


@pytest.mark.parametrize("levels", [3, 10**6])
def test_maps_that_are_given_agree(tiny, levels):
    tiny.model.eval()
    maps = (tiny.maps * levels).floor() - levels / 2
    found = measure("planted_truth", *tiny.call, maps=maps, masks=tiny.masks).values
    np.testing.assert_allclose(found, theirs(tiny, maps), rtol=0, atol=1e-6)
    assert np.ptp(found) > 0.05
    assert np.abs(found - theirs(tiny, -maps)).max() > 0.05


def test_quantus_counts_evidence_against_the_class_as_least_unless_told(tiny):
    """Of methods with a sign we take the magnitude, which Quantus does with abs=True."""
    tiny.model.eval()
    maps = explain("input_x_gradient", *tiny.call).detach()
    found = measure("planted_truth", *tiny.call, method="input_x_gradient", masks=tiny.masks).values
    np.testing.assert_allclose(found, theirs(tiny, maps, magnitude=True), rtol=0, atol=1e-6)
    assert np.abs(found - theirs(tiny, maps)).max() > 0.05
    assert bool((maps < 0).any() & (maps > 0).any())
