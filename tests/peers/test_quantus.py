"""Metrics against Quantus 0.6 where both mean the same, and by how much they differ where they do not."""

import warnings

import numpy as np
import pytest
import torch
from small_models import Share

from cardgen import measure
from cardgen.api import make_subject
from cardgen.curves import area, curve
from cardgen.study import Study

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    quantus = pytest.importorskip("quantus")

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
PIXELS, PER_STEP = 120, 4
STEPS = PIXELS // PER_STEP
TOLERANCE = 1e-5


def deletion_curve(model, inputs, targets, maps, steps=STEPS, substrate="mean"):
    """Our curve, every step of every sample."""
    study = Study(make_subject(model, inputs, targets, None, None, 0, 32, None), len(inputs), given=maps)
    with study.subject.open():
        return curve(study, steps, substrate, insert=False)


def pixel_flipping(model, inputs, targets, maps, baseline=0.5, values=3 * PER_STEP, batch=64, softmax=True, **options):
    """Quantus' curve: without step 0. Its maps hold one value a channel, so a pixel is as many values as there are channels."""
    model.eval()
    metric = quantus.PixelFlipping(
        features_in_step=values, perturb_baseline=baseline, disable_warnings=True, **{"normalise": False, **options}
    )
    arrays = {"x_batch": inputs.numpy(), "y_batch": targets.numpy(), "a_batch": maps[:, None].numpy()}
    return np.array(metric(model=model, channel_first=True, device="cpu", batch_size=batch, softmax=softmax, **arrays))


def faithfulness_estimate(model, inputs, targets, maps, baseline=0.5, values=3 * PER_STEP):
    """Quantus' correlation of the drop with the saliency removed, each step's pixels removed alone."""
    model.eval()
    metric = quantus.FaithfulnessEstimate(
        features_in_step=values, perturb_baseline=baseline, normalise=False, disable_warnings=True
    )
    arrays = {"x_batch": inputs.numpy(), "y_batch": targets.numpy(), "a_batch": maps[:, None].numpy()}
    return np.array(metric(model=model, channel_first=True, device="cpu", softmax=True, **arrays))


def pointing_game(small, maps, masks):
    metric = quantus.PointingGame(abs=False, normalise=False, disable_warnings=True)
    arrays = {"x_batch": small.inputs.numpy(), "y_batch": small.targets.numpy(), "a_batch": maps[:, None].numpy()}
    found = metric(model=small.model, s_batch=masks[:, None].numpy(), channel_first=True, device="cpu", **arrays)
    return np.array(found, dtype=float)


@pytest.fixture
def subject(tiny):
    tiny.model.eval()
    assert all(len(one.unique()) == PIXELS for one in tiny.maps)  # without ties there is one order only
    return tiny


@pytest.mark.parametrize("batch", [2, 64])
@pytest.mark.parametrize("normalise", [False, True])
def test_deletion_agrees_step_by_step(subject, batch, normalise):
    found = deletion_curve(*subject.call, subject.maps).numpy()
    expected = pixel_flipping(*subject.call, subject.maps, batch=batch, normalise=normalise)
    np.testing.assert_allclose(found[:, 1:], expected, rtol=0, atol=TOLERANCE)
    least_first = pixel_flipping(*subject.call, 1 - subject.maps, batch=batch, normalise=normalise)
    assert np.abs(found[:, 1:] - least_first).max(axis=1).min() > 100 * TOLERANCE  # another order would be seen


def test_quantus_leaves_out_the_first_step_and_the_width_of_a_step(subject, monkeypatch):
    if not hasattr(np, "trapz"):  # gone since NumPy 2.4; Quantus 0.6 still calls it by this name
        monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)
    ours = deletion_curve(*subject.call, subject.maps)
    theirs = pixel_flipping(*subject.call, subject.maps, return_auc_per_sample=True)
    without_width = torch.trapezoid(ours[:, 1:], dx=1).numpy()
    np.testing.assert_allclose(theirs, without_width, rtol=0, atol=STEPS * TOLERANCE)
    first = (ours[:, 0] + ours[:, 1]).numpy() / 2
    np.testing.assert_allclose(area(ours, PIXELS).numpy(), (theirs + first) / STEPS, rtol=0, atol=TOLERANCE)
    scores = measure("deletion", *subject.call, maps=subject.maps, steps=STEPS).values
    assert np.abs(scores - theirs / STEPS).max() > 0.005  # so dividing by the steps does not make them one


def test_most_and_least_relevant_first_agree_step_by_step(subject):
    options = {"steps": STEPS, "substrate": "zero"}
    theirs = pixel_flipping(*subject.call, subject.maps, baseline=0.0, softmax=False)
    reversed_ = pixel_flipping(*subject.call, 1 - subject.maps, baseline=0.0, softmax=False)
    with torch.no_grad():
        clean = subject.model(subject.inputs).gather(1, subject.targets[:, None]).numpy()
    for key, curves in (("perturbation_morf", theirs), ("perturbation_lerf", reversed_)):
        found = measure(key, *subject.call, maps=subject.maps, **options)
        whole = np.concatenate([clean, curves], axis=1)
        np.testing.assert_allclose(found.values, np.trapezoid(whole, dx=1 / STEPS, axis=1), rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(found.reported["on_image"], clean.mean(), rtol=0, atol=TOLERANCE)
    assert np.abs(theirs - reversed_).max(axis=1).min() > 0.1


def test_deletion_correlation_follows_from_the_curve_of_quantus(subject):
    with torch.no_grad():
        clean = subject.model(subject.inputs).softmax(1).gather(1, subject.targets[:, None]).numpy()
    whole = np.concatenate([clean, pixel_flipping(*subject.call, subject.maps)], axis=1)
    saliency = subject.maps.flatten(1).sort(descending=True).values.view(7, STEPS, PER_STEP).mean(2).numpy()
    expected = [np.corrcoef(-np.diff(one), mean)[0, 1] for one, mean in zip(whole, saliency, strict=True)]
    found = measure("deletion_correlation", *subject.call, maps=subject.maps, steps=STEPS).values
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_the_faithfulness_estimate_of_quantus_removes_each_step_alone(subject):
    """Where pixels add up, alone and together are the same, and so are the two correlations; elsewhere they are not."""
    weights = torch.rand(3, 12, 10, generator=torch.Generator().manual_seed(1)) / 360
    targets = torch.zeros(7, dtype=torch.int64)
    options = {"steps": STEPS, "substrate": "black"}
    additive = (Share(weights), subject.inputs, targets)
    theirs = faithfulness_estimate(*additive, subject.maps, baseline=0.0)
    ours = measure("deletion_correlation", *additive, maps=subject.maps, **options).values
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
    theirs = faithfulness_estimate(*subject.call, subject.maps, baseline=0.0)
    ours = measure("deletion_correlation", *subject.call, maps=subject.maps, **options).values
    assert np.abs(ours - theirs).max() > 0.05


def test_black_is_each_images_own_minimum_in_quantus(subject):
    grey = subject._replace(inputs=0.3 + subject.inputs / 2)  # no image reaches down to black
    ours = deletion_curve(*grey.call, grey.maps, substrate="black").numpy()[:, 1:]
    np.testing.assert_allclose(ours, pixel_flipping(*grey.call, grey.maps, baseline=0.0), rtol=0, atol=TOLERANCE)
    named = pixel_flipping(*grey.call, grey.maps, baseline="black")
    for i in range(7):
        one = grey.take([i])
        lowest = pixel_flipping(*one.call, one.maps, baseline=float(one.inputs.min()))
        np.testing.assert_allclose(named[i], lowest[0], rtol=0, atol=TOLERANCE)
    assert np.abs(ours - named).max(axis=1).min() > 100 * TOLERANCE


def test_ties_are_broken_alike_for_all_in_quantus_and_at_random_here():
    # f_0 is the share of light in the left half of the image; the map is flat
    weights = torch.zeros(1, 8, 8)
    weights[:, :, :4] = 1 / 32
    inputs = 1 - 0.001 * torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    targets, maps = torch.zeros(50, dtype=torch.int64), torch.full((50, 8, 8), 0.5)
    maps[-1, 0, 0] = 1.0  # Quantus takes no batch whose maps are all flat
    theirs = pixel_flipping(Share(weights), inputs, targets, maps, baseline=0.0, values=4)
    ours = deletion_curve(Share(weights), inputs, targets, maps, steps=16, substrate="black").numpy()[:, 1:]
    assert theirs[:-1].std(axis=0).max() < 0.002  # one order for all, that of the sort
    assert ours[:, :-1].std(axis=0).min() > 0.01  # one for each sample
    np.testing.assert_allclose(ours.mean(0), 1 - np.arange(1, 17) / 16, atol=0.05)  # no place is preferred


def test_pointing_game_agrees_without_tolerance(subject):
    maps, masks = subject.maps.repeat(2, 1, 1), torch.cat([subject.masks, ~subject.masks])
    both = subject._replace(inputs=subject.inputs.repeat(2, 1, 1, 1), targets=subject.targets.repeat(2))
    found = measure("pointing_game", *both.call, maps=maps, masks=masks, tolerance=0.0)
    assert found.valid.all()
    np.testing.assert_array_equal(found.values, pointing_game(both, maps, masks))
    assert set(found.values) == {0.0, 1.0}


def test_the_papers_tolerance_is_not_in_quantus(subject):
    maps = torch.zeros_like(subject.maps)
    for one, mask in zip(maps, subject.masks, strict=True):
        rows, columns = mask.nonzero().T
        beside = int(columns.max()) + 1 if columns.max() < 9 else int(columns.min()) - 1
        one[rows[0], beside] = 1.0
    assert pointing_game(subject, maps, subject.masks).tolist() == [0.0] * 7
    near = measure("pointing_game", *subject.call, maps=maps, masks=subject.masks, tolerance=1.5 / 10)
    assert near.values.tolist() == [1.0] * 7


@pytest.mark.parametrize("value", [-0.5, 0.0, 0.5, 1.0])
def test_flat_maps_end_the_run_in_quantus_and_are_measured_here(subject, value):
    flat = torch.full_like(subject.maps, value)
    with pytest.raises(AssertionError):
        pointing_game(subject, flat, subject.masks)
    with pytest.raises(AssertionError):
        pixel_flipping(*subject.call, flat)
    assert measure("pointing_game", *subject.call, maps=flat, masks=subject.masks).flat.all()
    assert measure("deletion", *subject.call, maps=flat).flat.all()


def test_maps_below_zero_end_the_run_in_quantus_and_are_measured_here(subject):
    with pytest.raises(AssertionError, match="less than zero"):
        pixel_flipping(*subject.call, subject.maps - 1)
    found, same = (measure("deletion", *subject.call, maps=maps).values for maps in (subject.maps - 1, subject.maps))
    np.testing.assert_allclose(found, same, rtol=0, atol=TOLERANCE)


def test_an_empty_mask_is_a_hit_in_quantus_and_no_sample_here(subject):
    masks = subject.masks.clone()
    masks[2] = False
    assert pointing_game(subject, subject.maps, masks)[2] == 1.0
    found = measure("pointing_game", *subject.call, maps=subject.maps, masks=masks, tolerance=0.0)
    assert found.valid.tolist() == [True, True, False, True, True, True, True]


def test_tied_maxima_are_a_hit_in_quantus_and_a_share_here(subject):
    maps = (subject.maps > 0.5).float()
    share = (maps * subject.masks).sum((1, 2)) / maps.sum((1, 2))
    assert ((share > 0) & (share < 1)).all()
    assert pointing_game(subject, maps, subject.masks).tolist() == [1.0] * 7
    found = measure("pointing_game", *subject.call, maps=maps, masks=subject.masks, tolerance=0.0)
    assert found.values == pytest.approx(share.double().numpy())


def localisation(metric, small, maps, masks):
    """A localisation metric of Quantus on maps as they are."""
    found = getattr(quantus, metric)(abs=False, normalise=False, disable_warnings=True)
    arrays = {"x_batch": small.inputs.numpy(), "y_batch": small.targets.numpy(), "a_batch": maps[:, None].numpy()}
    return np.array(
        found(model=small.model, s_batch=masks[:, None].numpy(), channel_first=True, device="cpu", **arrays)
    )


def test_plausibility_is_relevance_mass_accuracy_of_positive_maps(subject):
    ours = measure("plausibility", *subject.call, maps=subject.maps, masks=subject.masks, noise_draws=1).values
    theirs = localisation("RelevanceMassAccuracy", subject, subject.maps, subject.masks)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
    assert np.ptp(theirs) > 0.02


def test_quantus_lets_negative_mass_count(subject):
    signed = subject.maps - 0.4
    ours = measure("plausibility", *subject.call, maps=signed, masks=subject.masks, noise_draws=1).values
    theirs = localisation("RelevanceMassAccuracy", subject, signed, subject.masks)
    assert np.abs(ours - theirs).max() > 0.01
    positive = localisation("RelevanceMassAccuracy", subject, signed.clamp_min(0), subject.masks)
    np.testing.assert_allclose(ours, positive, rtol=0, atol=TOLERANCE)


def test_iou_at_the_mask_s_area_says_the_same_as_relevance_rank_accuracy(subject):
    maps = subject.maps + 0.5 * subject.masks
    ours = measure("mean_iou", *subject.call, maps=maps, masks=subject.masks).values
    ranks = localisation("RelevanceRankAccuracy", subject, maps, subject.masks)  # h / k, where the IoU is h / (2k − h)
    np.testing.assert_allclose(ours, ranks / (2 - ranks), rtol=0, atol=TOLERANCE)
    assert np.ptp(ranks) > 0.1
