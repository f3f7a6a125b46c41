"""Work that metrics share is done once, and never mixed up between maps."""

import hashlib

import numpy as np
import torch
from small_models import every_batch_and_order, tiny_subject

from cardgen import measure
from cardgen.draws import content_ids
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.space import Space
from cardgen.study import Study, Subject

CURVES = ("deletion", "insertion", "pointing_game", "sparsity")


def counted(small):
    """Digests of all samples that the model gets to see."""
    seen = []
    small.model.register_forward_pre_hook(
        lambda m, a: seen.extend(hashlib.sha256(x.numpy().tobytes()).hexdigest() for x in a[0])
    )
    return seen


def subject_of(small, **options):
    return Subject(small.model, small.inputs, small.targets, content_ids(small.inputs), masks=small.masks, **options)


def test_every_sample_is_forwarded_once():
    # Needed: the clean image (shared) and its blurred self, 49 steps each of deletion and insertion, and one image of the mean colour.
    small = tiny_subject()
    seen = counted(small)
    study = Study(subject_of(small), 7, given=small.maps)
    for key in CURVES:
        METRICS[key].measure(study, METRICS[key].parameters({}))
    assert len(seen) == 7 * (1 + 1 + 49 + 49) + 1
    assert len(seen) / len(set(seen)) == 1.0


REMOVED = ("deletion", "deletion_correlation", "perturbation_morf")
"""One curve where zero in the model's space is the data's mean."""
RETURNED = ("insertion", "insertion_correlation")


def forwarded(keys, space):
    """Digests of what the model sees for some metrics, and what each of them says that it cost."""
    small = tiny_subject()
    seen = counted(small)
    shifted = Space.normalised((0.4, 0.5, 0.6), (0.25, 0.25, 0.25)) if space == "normalised" else Space()
    study = Study(subject_of(small, space=shifted), 7, given=small.maps)
    return seen, [METRICS[key].measure(study, METRICS[key].parameters({})).passes for key in keys]


def test_metrics_of_one_curve_forward_it_once():
    for order in (REMOVED, REMOVED[::-1]):
        seen, costs = forwarded(order, "normalised")
        assert len(seen) == len(set(seen)) == 7 * (1 + 49) + 1
        assert costs == [7 * (1 + 49) + 1] * 3
    for order in (RETURNED, RETURNED[::-1]):
        seen, costs = forwarded(order, "normalised")
        assert len(seen) == len(set(seen)) == 7 * (1 + 1 + 49)
        assert costs == [7 * (1 + 1 + 49)] * 2


def test_all_curves_together_forward_nothing_twice():
    """Needed: the clean image and its blurred self, one image of the mean colour, and 49 steps each of what goes into the mean
    (deletion, its correlation, most relevant first), what comes back into the blur (insertion, its correlation), and what comes
    back into zero (least relevant first)."""
    seen, _ = forwarded((*REMOVED, *RETURNED, "perturbation_lerf"), "normalised")
    assert len(seen) == 7 * (1 + 1 + 3 * 49) + 1
    assert len(seen) / len(set(seen)) == 1.0


def test_where_zero_is_another_colour_than_the_mean_it_is_another_curve():
    seen, _ = forwarded(REMOVED, "unnormalised")
    assert len(seen) == len(set(seen)) == 7 * (1 + 2 * 49) + 2


def test_a_second_time_costs_nothing():
    small = tiny_subject()
    seen = counted(small)
    study = Study(subject_of(small), 7, given=small.maps)
    first = [METRICS[key].measure(study, METRICS[key].parameters({})) for key in CURVES]
    before = len(seen)
    again = [METRICS[key].measure(study, METRICS[key].parameters({})) for key in reversed(CURVES)]
    assert len(seen) == before
    for one, other in zip(first, reversed(again), strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        assert one.passes == other.passes, "the cost must not depend on who paid first"


def test_the_mean_colour_and_clean_images_serve_all_maps():
    small = tiny_subject()
    seen = counted(small)
    subject = subject_of(small)
    for method in ("noise", "noise_4", "constant", "edges"):
        for key in CURVES:
            METRICS[key].measure(Study(subject, 7, METHODS[method]), METRICS[key].parameters({}))
    ends = 7 * 2 + 1
    assert len(seen) == ends + 4 * 7 * 98


def test_cascades_share_their_last_point_and_their_self_similarity():
    small = tiny_subject()
    study = Study(subject_of(small), 7, METHODS["vanilla_gradients"])
    cascade, all_layers = METRICS["cascading_randomization"], METRICS["model_weight_randomization"]
    cascade.measure(study, cascade.parameters({}))
    seen = counted(small)
    all_layers.measure(study, all_layers.parameters({}))
    assert seen == []


def test_two_maps_of_ones_own_on_one_subject_are_kept_apart():
    small = tiny_subject()
    subject = subject_of(small)
    metric = METRICS["deletion"]
    one, other = (
        metric.measure(Study(subject, 7, given=maps), metric.parameters({})) for maps in (small.maps, -small.maps)
    )
    np.testing.assert_array_equal(one.values, measure("deletion", *small.call, maps=small.maps).values)
    np.testing.assert_array_equal(other.values, measure("deletion", *small.call, maps=-small.maps).values)
    assert np.abs(one.values - other.values).max() > 1e-3


def test_fewer_samples_first_gives_the_same_scores():
    small = tiny_subject()
    metric = METRICS["deletion"]

    def scores(*counts):
        subject = subject_of(small, cuts=(2, 5))
        return [metric.measure(Study(subject, n, METHODS["noise"]), metric.parameters({})).values for n in counts][-1]

    np.testing.assert_array_equal(scores(2, 5, 7), scores(7))
    np.testing.assert_array_equal(scores(7, 2), scores(2))


def test_parameters_are_part_of_the_key():
    small = tiny_subject()
    subject = subject_of(small)
    metric = METRICS["deletion"]
    runs = [
        metric.measure(
            Study(subject, 7, METHODS["noise"], METHODS["noise"].parameters({"draw": d})), metric.parameters(p)
        ).values
        for d in (0, 1)
        for p in ({}, {"steps": 20}, {"substrate": "black"})
    ]
    assert all(np.abs(a - b).max() > 1e-6 for i, a in enumerate(runs) for b in runs[i + 1 :])


def test_full_batches(tiny):
    """All batches but the last of a curve are full, whatever number of steps a sample has."""
    sizes = []
    tiny.model.register_forward_pre_hook(lambda m, a: sizes.append(len(a[0])))
    measure("deletion", *tiny.call, maps=tiny.maps, batch=32)
    partial = [s for s in sizes if s not in (32, 1)]
    assert partial == [7 * 49 % 32, 7] or partial == [7, 7 * 49 % 32]


def test_seeds_settle_ties(tiny):
    coarse = (tiny.maps * 3).floor()

    def score(rows, batch):
        some = tiny.take(rows)
        return measure("deletion", *some.call, maps=coarse[rows], batch=batch).values

    every_batch_and_order(score)
    one, other = (measure("deletion", *tiny.call, maps=coarse, seed=s).values for s in (0, 1))
    assert np.abs(one - other).max() > 1e-6
    distinct = torch.equal(tiny.maps.flatten(1).sort(1).values.diff(dim=1) > 0, torch.ones(7, 119, dtype=torch.bool))
    assert distinct
    without = [measure("deletion", *tiny.call, maps=tiny.maps, seed=s).values for s in (0, 1)]
    np.testing.assert_array_equal(*without)
