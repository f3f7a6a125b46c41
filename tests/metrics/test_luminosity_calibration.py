"""Luminosity calibration against its slow reference, by hand, under wrong versions of itself, and what it shares with faithfulness."""

import numpy as np
import pytest
import torch
from reference import maps as plain
from reference import regions as reference
from small_models import Linear, Share, every_batch_and_order, untouched
from small_runs import forwards

from cardgen import measure
from cardgen.draws import content_ids
from cardgen.errors import CardgenError
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.study import Study, Subject

TOLERANCE = 1e-6


def expected(small, parts=8, colour=0.5):
    background = torch.full_like(small.inputs[0], colour)
    return [
        reference.luminosity_calibration(small.model, x, int(t), a, background, parts)
        for x, t, a in zip(small.inputs, small.targets, small.maps, strict=True)
    ]


def likely(small):
    """With the predictions as targets: where f_c is about 0 so are all drops, and rounding decides their ranks."""
    with torch.no_grad():
        return small._replace(targets=small.model(small.inputs).argmax(1))


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_agrees_with_the_reference(tiny, parts):
    small = likely(tiny)
    found = measure("luminosity_calibration", *small.call, maps=small.maps, parts=parts)
    np.testing.assert_allclose(found.values, expected(small, parts), rtol=0, atol=TOLERANCE)
    assert found.valid.all()
    assert not found.flat.any()


def test_agrees_with_the_reference_on_the_default_grid(tiny):
    # among 64 drops one or two lie so close to a neighbour's that float32 exchanges their ranks
    small = likely(tiny)
    found = measure("luminosity_calibration", *small.call, maps=small.maps).values
    np.testing.assert_allclose(found, expected(small), rtol=0, atol=2e-3)


def test_by_hand():
    # drops .4 .3 .2 .1; Spearman = 1 − 6 Σ d² / (4 · 15)
    model, image, target = Share([[[0.4, 0.3], [0.2, 0.1]]]), torch.ones(1, 1, 2, 2), torch.tensor([0])
    for saliency, found in (
        ([[9.0, 3.0], [2.0, 1.0]], 1.0),  # order is all that counts
        ([[3.0, 9.0], [2.0, 1.0]], 0.8),  # the first two exchanged: Σ d² = 2
        ([[2.0, 3.0], [9.0, 1.0]], 1 - 6 * 8 / 60),
        ([[-9.0, 2.0], [3.0, 4.0]], -1.0),
    ):
        options = {"maps": torch.tensor([saliency]), "parts": 2, "substrate": "black"}
        scores = measure("luminosity_calibration", model, image, target, **options)
        assert scores.values == pytest.approx([found], abs=1e-9)


def test_brightness_and_not_size_ranks_the_regions():
    # a side of 3 is cut into 2 and 1; what is brightest is the single pixel, what has the largest sum the four pixels
    weights = torch.zeros(1, 3, 3)
    weights[0, 2, 2] = 0.9
    saliency = torch.tensor([[[0.5, 0.5, 0.1], [0.5, 0.5, 0.1], [0.2, 0.2, 1.0]]])
    call = Share(weights), torch.ones(1, 1, 3, 3), torch.tensor([0])
    options = {"maps": saliency, "parts": 2, "substrate": "black"}
    # ranks of drops (2, 2, 2, 4) and of means (3, 1, 2, 4): Pearson = 4 / √(3 · 5)
    found = measure("luminosity_calibration", *call, **options).values[0]
    assert found == pytest.approx(0.5 * 1.5 * 4 / np.sqrt(3 * 5), abs=1e-9)


def test_rounding_ranks_nothing():
    # f_0 falls by less than a millionth everywhere but in one region: all others share their rank
    weights = torch.full((1, 8, 8), 1e-9)
    weights[0, 2, 5] = 0.9
    saliency = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    saliency[0, 2, 5] = 2.0
    found = measure(
        "luminosity_calibration",
        Share(weights),
        torch.ones(1, 1, 8, 8),
        torch.tensor([0]),
        maps=saliency,
        substrate="black",
    )
    ranks = np.arange(64) - 31.5
    assert found.values[0] == pytest.approx(31.5 / np.sqrt((ranks**2).sum() * (1 - 1 / 64)), abs=1e-9)


def test_regions_that_all_cost_the_same_tell_nothing_whatever_the_map():
    model = Linear(torch.zeros(1, 8, 8))
    found = measure(
        "luminosity_calibration", model, torch.rand(3, 1, 8, 8), torch.zeros(3).long(), maps=torch.rand(3, 8, 8)
    )
    assert found.values.tolist() == [0, 0, 0]
    assert not found.valid.any()
    assert not found.flat.any()
    assert found.reported["still"] == 3


MUTATIONS = {
    "sums for means": ("total", lambda a, r, right=reference.total: right(a, r) * len(r)),
    "of magnitudes": ("total", lambda a, r, right=reference.total: right(a.abs(), r)),
    "the size of the change": ("drops", lambda *a, right=reference.drops: [abs(d) for d in right(*a)]),
    "another class": ("probability", lambda m, x, t, right=reference.probability: right(m, x, (t + 1) % 4)),
    "all but the region": ("replaced", lambda x, r, b, right=reference.replaced: right(b, r, x)),
}


@pytest.mark.parametrize("name", [*MUTATIONS, "of values, not ranks"])
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    small = likely(tiny)._replace(maps=tiny.maps - 0.5)
    found = measure("luminosity_calibration", *small.call, maps=small.maps, parts=5).values
    np.testing.assert_allclose(found, expected(small, 5), rtol=0, atol=TOLERANCE)
    if name in MUTATIONS:
        monkeypatch.setattr(reference, *MUTATIONS[name])
    else:
        monkeypatch.setattr(plain, "ranks", lambda values: values)
    assert np.abs(found - expected(small, 5)).max() > 100 * TOLERANCE


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        some = likely(tiny).take(rows)
        return measure("luminosity_calibration", *some.call, maps=some.maps, batch=batch).values

    every_batch_and_order(score)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
        measure("luminosity_calibration", *tiny.call, maps=tiny.maps)


def test_one_set_of_forward_passes_serves_both_metrics_and_all_maps(tiny):
    subject = Subject(*tiny.call, content_ids(tiny.inputs), batch=16)
    keys = ("faithfulness", "luminosity_calibration")
    with forwards(tiny.model) as seen:
        runs = [
            METRICS[key].measure(Study(subject, 7, METHODS[method]), METRICS[key].parameters({"substrate": colour}))
            for method in ("noise", "edges")
            for key in keys
            for colour in ("mean", "grey")  # the same colour in this space
        ]
    assert sum(seen) == 7 * (64 + 1)
    assert {run.passes for run in runs} == {7 * (64 + 1)}, "the cost must not depend on who paid first"
    batches = sorted(seen, reverse=True)
    assert batches[: 7 * 64 // 16] == [16] * 28


def test_images_without_such_a_grid_are_refused(tiny):
    with pytest.raises(CardgenError, match=r"^images of 12 × 10 pixels in a grid of 11 × 11; expected 2 to 10 parts"):
        measure("luminosity_calibration", *tiny.call, maps=tiny.maps, parts=11)
