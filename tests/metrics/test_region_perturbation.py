"""Region perturbation against its slow reference, by hand, and under wrong versions of itself; and the lattice that it takes."""

import itertools

import numpy as np
import pytest
import torch
from reference import regions as reference
from small_models import Share, every_batch_and_order, untouched
from small_runs import forwards

from cardgen import measure
from cardgen.draws import content_ids
from cardgen.errors import CardgenError
from cardgen.grids import squares
from cardgen.metrics import METRICS
from cardgen.study import Study, Subject

TOLERANCE = 1e-6


def expected(small, **options):
    noise = Subject(*small.call, content_ids(small.inputs)).substrate("random", len(small.inputs))
    return [
        reference.region_perturbation(small.model, x, int(t), a, b, **options)
        for x, t, a, b in zip(small.inputs, small.targets, small.maps, noise, strict=True)
    ]


@pytest.mark.parametrize(
    ("side", "steps"), [(3, 100), (3, 12), (3, 11), (3, 1), (1, 120), (2, 30), (4, 2), (5, 4), (6, 100)]
)
def test_agrees_with_the_reference(tiny, side, steps):
    found = measure("region_perturbation", *tiny.call, maps=tiny.maps, side=side, steps=steps)
    np.testing.assert_allclose(found.values, expected(tiny, side=side, steps=steps), rtol=0, atol=TOLERANCE)


def test_one_colour_for_noise(tiny):
    found = measure("region_perturbation", *tiny.call, maps=tiny.maps, side=3, substrate="black").values
    wanted = [
        reference.region_perturbation(tiny.model, x, int(t), a, torch.zeros_like(x), side=3)
        for x, t, a in zip(tiny.inputs, tiny.targets, tiny.maps, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)


QUARTERS = Share([[[0.4, 0.3], [0.2, 0.1]]])
BLACK = {"side": 1, "substrate": "black"}


def test_by_hand():
    # f_0 = 1, .6, .3, .1, 0 most salient first: drops 0, .4, .7, .9, 1, their mean .6; the other way 0, .1, .3, .6, 1: .4
    maps = torch.tensor([[[4.0, 3.0], [2.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]]])
    call = QUARTERS, torch.ones(2, 1, 2, 2), torch.tensor([0, 0])
    found = measure("region_perturbation", *call, maps=maps, **BLACK)
    assert found.values == pytest.approx([0.6, 0.4], abs=1e-6)
    assert found.curve.y == pytest.approx([1, 0.75, 0.5, 0.25, 0], abs=1e-6)
    # two steps: 0, .4, .7 and 0, .1, .3
    found = measure("region_perturbation", *call, maps=maps, steps=2, **BLACK)
    assert found.values == pytest.approx([1.1 / 3, 0.4 / 3], abs=1e-6)


def test_the_order_by_true_effect_is_the_highest_of_all():
    maps = torch.tensor(list(itertools.permutations([4.0, 3.0, 2.0, 1.0]))).view(24, 2, 2)
    call = QUARTERS, torch.ones(24, 1, 2, 2), torch.zeros(24, dtype=torch.int64)
    found = measure("region_perturbation", *call, maps=maps, **BLACK).values
    assert found.argmax() == 0
    assert found.argmin() == 23


def test_an_added_constant_changes_no_order(tiny):
    one, other = (
        measure("region_perturbation", *tiny.call, maps=maps, side=5).values for maps in (tiny.maps, tiny.maps - 2)
    )
    np.testing.assert_array_equal(one, other)


def test_noise_is_the_sample_s_own(tiny):
    one, other = (measure("region_perturbation", *tiny.call, maps=tiny.maps, side=3, seed=s).values for s in (0, 1))
    assert np.abs(one - other).max() > 1e-3


def test_ties_are_broken_at_random_and_not_by_the_sort():
    # f_0 is the share of light in the left half: on average the curve of a flat map falls along the diagonal, 1/2 in the mean
    weights = torch.zeros(1, 8, 8)
    weights[:, :, :4] = 1 / 32
    images = 1 - 0.001 * torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    call = Share(weights), images, torch.zeros(200, dtype=torch.int64)
    flat = measure("region_perturbation", *call, maps=torch.zeros(200, 8, 8), side=2, substrate="black")
    assert flat.flat.all()
    assert flat.valid.all()
    assert flat.values.mean() == pytest.approx(0.5, abs=0.02)
    assert 0.01 < flat.values.std() < 0.2


MUTATIONS = {
    "least salient first": ("total", lambda a, r, right=reference.total: -right(a, r)),
    "of magnitudes": ("total", lambda a, r, right=reference.total: right(a.abs(), r)),
    "another class": ("probability", lambda m, x, t, right=reference.probability: right(m, x, (t + 1) % 4)),
    "a lattice from the corner": (
        "squares",
        lambda h, w, side, right=reference.squares: [
            [(i - h % side // 2, j - w % side // 2) for i, j in region] for region in right(h, w, side)
        ],
    ),
    "a lattice without its last region": ("squares", lambda *a, right=reference.squares: right(*a)[:-1]),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    small = tiny._replace(maps=tiny.maps - 0.5)
    found = measure("region_perturbation", *small.call, maps=small.maps, side=4, steps=4).values
    np.testing.assert_allclose(found, expected(small, side=4, steps=4), rtol=0, atol=TOLERANCE)
    monkeypatch.setattr(reference, *MUTATIONS[name])
    assert np.abs(found - expected(small, side=4, steps=4)).max() > 100 * TOLERANCE


def test_step_0_counts(tiny):
    """Without it the mean is over L, not L + 1."""
    found = measure("region_perturbation", *tiny.call, maps=tiny.maps, side=3, steps=5).values
    without = 6 / 5 * np.array(expected(tiny, side=3, steps=5))
    assert np.abs(found - without).max() > 100 * TOLERANCE


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure("region_perturbation", *some.call, maps=some.maps, side=3, batch=batch).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
        measure("region_perturbation", *tiny.call, maps=tiny.maps, side=3)


@pytest.mark.parametrize(
    ("side", "steps", "own", "shared"), [(3, 100, 11, 2), (3, 5, 5, 1), (1, 120, 119, 2), (2, 29, 29, 1)]
)
def test_without_any_region_the_image_is_the_same_for_all_maps(tiny, side, steps, own, shared):
    subject = Subject(*tiny.call, content_ids(tiny.inputs))
    metric = METRICS["region_perturbation"]
    with forwards(tiny.model) as seen:
        runs = [
            metric.measure(Study(subject, 7, given=maps), metric.parameters({"side": side, "steps": steps}))
            for maps in (tiny.maps, -tiny.maps)
        ]
    assert sum(seen) == 7 * (2 * own + shared)
    assert [run.passes for run in runs] == [7 * (own + shared)] * 2


def test_without_a_margin_the_last_image_is_the_bare_substrate_that_curves_also_end_in(tiny):
    subject = Subject(*tiny.call, content_ids(tiny.inputs))
    study = Study(subject, 7, given=tiny.maps)
    with forwards(tiny.model) as seen:
        for key, parameters in (
            ("insertion", {"steps": 10, "substrate": "random"}),
            ("region_perturbation", {"side": 2}),
        ):
            METRICS[key].measure(study, METRICS[key].parameters(parameters))
    assert sum(seen) == 7 * (2 + 9 + 29)


@pytest.mark.parametrize("side", [0, 7, 13])
def test_images_without_two_regions_are_refused(tiny, side):
    with pytest.raises(CardgenError) as error:
        measure("region_perturbation", *tiny.call, maps=tiny.maps, side=side)
    assert str(error.value) == (
        f"images of 12 × 10 pixels in regions of {side} × {side}; expected room for two regions or more; "
        "set the parameter side, or give larger images"
    )


def test_no_steps_are_refused(tiny):
    with pytest.raises(CardgenError) as error:
        measure("region_perturbation", *tiny.call, maps=tiny.maps, steps=0)
    assert str(error.value) == "region_perturbation in 0 steps; expected at least 1; raise the parameter steps"


@pytest.mark.parametrize(("height", "width", "side"), [(64, 64, 9), (12, 10, 3), (27, 18, 9), (12, 10, 5)])
def test_the_lattice(height, width, side):
    regions = squares(height, width, side).regions()
    wanted = reference.squares(height, width, side)
    assert int(regions.max()) + 1 == len(wanted)
    for number, pixels in enumerate(wanted):
        assert (regions == number).nonzero().tolist() == [list(p) for p in pixels]
    assert int((regions < 0).sum()) == height * width - len(wanted) * side**2
