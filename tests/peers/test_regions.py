"""Regions that go alone or one after the other, against Quantus 0.6 and captum: where both mean the same, and where they do not."""

import warnings

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation
from small_models import Tiny, lively, seeded, small_subject

from cardgen import measure
from cardgen.api import make_subject
from cardgen.grids import drops, even

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    quantus = pytest.importorskip("quantus")

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
TOLERANCE = 1e-4


@pytest.fixture
def subject(tiny):
    tiny.model.eval()
    return tiny


def asked(metric, small, maps, batch=64):
    """What Quantus says of maps."""
    arrays = {"x_batch": small.inputs.numpy(), "y_batch": small.targets.numpy(), "a_batch": maps[:, None].numpy()}
    return np.array(
        metric(model=small.model, channel_first=True, device="cpu", softmax=True, batch_size=batch, **arrays)
    )


def region_perturbation(small, maps, side, steps=100, batch=64):
    """Quantus' drops [n, L], without that of step 0."""
    options = {"patch_size": side, "regions_evaluation": steps, "perturb_baseline": 0.5}
    metric = quantus.RegionPerturbation(normalise=False, disable_warnings=True, **options)
    return asked(metric, small, maps, batch)


def faithfulness_estimate(small, maps, values, batch=64):
    metric = quantus.FaithfulnessEstimate(
        features_in_step=values, perturb_baseline=0.5, normalise=False, abs=False, disable_warnings=True
    )
    return asked(metric, small, maps, batch)


@pytest.mark.parametrize("batch", [2, 64])
@pytest.mark.parametrize(("side", "steps"), [(2, 100), (2, 7)])
def test_region_perturbation_agrees_where_regions_divide_the_image(subject, side, steps, batch):
    found = measure(
        "region_perturbation", *subject.call, maps=subject.maps, side=side, steps=steps, substrate="mean"
    ).values
    theirs = region_perturbation(subject, subject.maps, side, steps, batch)
    taken = theirs.shape[1]
    np.testing.assert_allclose(found, theirs.sum(1) / (taken + 1), rtol=0, atol=TOLERANCE)  # with the 0 of step 0
    assert np.abs(found - theirs.mean(1)).max() > 10 * TOLERANCE
    turned = region_perturbation(subject, 1 - subject.maps, side, steps, batch)
    assert np.abs(found - turned.sum(1) / (taken + 1)).max() > 100 * TOLERANCE


def test_cut_regions_count_in_quantus_and_stay_as_they_are_here(subject):
    # sides of 12 and 10 pixels in fives: 2 × 2 whole regions here, 3 × 2 there, some of them of a single row
    theirs = region_perturbation(subject, subject.maps, 5)
    assert theirs.shape[1] == 6
    found = measure("region_perturbation", *subject.call, maps=subject.maps, side=5, substrate="mean").values
    assert np.abs(found - theirs.sum(1) / 7).max() > 100 * TOLERANCE


@pytest.fixture
def square():
    """12 × 12 pixels in 3 × 3 regions: Quantus takes groups only whose values, of all channels, divide the number of pixels."""
    return small_subject(lively(seeded(0, lambda: Tiny(height=12, width=12))), 12, 12)


def test_faithfulness_agrees_where_the_map_itself_names_the_regions(square):
    # one value a region, so that Quantus' groups of neighbours in the ranking are the regions
    levels = torch.rand(7, 9, generator=torch.Generator().manual_seed(0))
    maps = levels[:, even(12, 12, 3).regions()]
    found = measure("faithfulness", *square.call, maps=maps, parts=3).values
    np.testing.assert_allclose(found, faithfulness_estimate(square, maps, 3 * 16), rtol=0, atol=TOLERANCE)


def test_groups_are_made_by_the_map_in_quantus_and_by_place_here(square):
    found = measure("faithfulness", *square.call, maps=square.maps, parts=3).values
    assert np.abs(found - faithfulness_estimate(square, square.maps, 3 * 16)).max() > 0.1


@pytest.mark.parametrize("parts", [2, 8])
def test_drops_are_those_of_feature_ablation_in_captum(parts):
    small = small_subject(seeded(0, lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(360, 4))), 12, 10)
    mask = even(12, 10, parts).regions()
    whole = make_subject(*small.call, None, None, 0, 32, None)
    with whole.open():
        found = drops(whole, 7, parts, "grey").flatten(1)
    ablation = FeatureAblation(lambda x: small.model(x).softmax(1))
    theirs = ablation.attribute(small.inputs, baselines=0.5, target=small.targets, feature_mask=mask[None, None])
    torch.testing.assert_close(found[:, mask], theirs[:, 0], rtol=0, atol=TOLERANCE)
    assert found.std(1).min() > 10 * TOLERANCE
