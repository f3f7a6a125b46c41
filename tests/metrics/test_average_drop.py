"""Average drop, and with it the soft masks of all three metrics, against a slow reference, by hand, and under wrong versions of itself."""

import numpy as np
import pytest
import torch
from reference import masked as reference
from reference import perturbed
from small_models import Linear, Share, every_batch_and_order, small_subject, tiny_subject, untouched
from small_runs import forwards

from cardgen import explain, measure
from cardgen.draws import content_ids
from cardgen.errors import CardgenError
from cardgen.metrics import METRICS
from cardgen.soft_masks import normalised
from cardgen.space import Space
from cardgen.study import Study, Subject

KEY = "average_drop"
ALL = ("average_drop", "increase_in_confidence", "average_drop_deletion")
DROPS = ("average_drop", "average_drop_deletion")
MEMBERS = ("noise", "noise_1", "noise_4", "noise_7", "noise_14")
FEW = {"noise_draws": 2}
TOLERANCE = 1e-5


def expected(key, small, maps=None, **options):
    score, maps = getattr(reference, key), small.maps if maps is None else maps
    return [score(small.model, small.inputs[i], int(small.targets[i]), maps[i], **options) for i in range(7)]


@pytest.mark.parametrize("key", ALL)
@pytest.mark.parametrize(
    ("name", "colour"), [("black", -1.0), ("white", 3.0), ("grey", 1.0), ("mean", 0.25), ("zero", 0.0)]
)
def test_agrees_with_the_reference(tiny, key, name, colour):
    found = measure(key, *tiny.call, maps=tiny.maps, substrate=name, space=Space((-1.0,), (3.0,), (0.25,)), **FEW)
    right = expected(key, tiny, colour=colour)
    np.testing.assert_allclose(found.values, right, rtol=0, atol=TOLERANCE)
    assert found.valid.all()
    assert np.ptp(right) > 0.1


@pytest.mark.parametrize("key", ALL)
def test_black_is_what_an_image_times_zero_is(tiny, key):
    found = measure(key, *tiny.call, maps=tiny.maps, **FEW).values
    np.testing.assert_allclose(found, expected(key, tiny, colour=0.0), rtol=0, atol=TOLERANCE)
    # after normalisation black is no longer 0
    space = Space.normalised((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))

    class Normalised(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tiny.model

        def forward(self, x):
            return self.inner(x * std + mean)

    inputs = (tiny.inputs - mean) / std
    same = measure(key, Normalised(), inputs, tiny.targets, maps=tiny.maps, space=space, **FEW)
    np.testing.assert_allclose(same.values, found, rtol=0, atol=TOLERANCE)


def test_by_hand():
    # f_0(x) = 0.4 a + 0.3 b + 0.2 c + 0.1 d on an image of ones. The map 3 2 1 0 is the mask 1, 2/3, 1/3, 0:
    # 0.4 + 0.2 + 0.2/3 = 2/3 is left of 1, and 1/3 under its inverse.
    # 0 1 2 3 is the mask 0, 1/3, 2/3, 1: 0.1 + 0.4/3 + 0.1 = 1/3 is left, and 2/3 under its inverse.
    model = Share([[[0.4, 0.3], [0.2, 0.1]]])
    images, targets = torch.ones(2, 1, 2, 2), torch.tensor([0, 0])
    maps = torch.tensor([[[3.0, 2.0], [1.0, 0.0]], [[0.0, 1.0], [2.0, 3.0]]])
    found = [measure(key, model, images, targets, maps=maps, **FEW).values for key in ALL]
    assert found[0] == pytest.approx([1 / 3, 2 / 3], abs=1e-6)
    assert found[1].tolist() == [0, 0]
    assert found[2] == pytest.approx([2 / 3, 1 / 3], abs=1e-6)


def test_a_gain_is_no_negative_drop():
    # f_1 = 1 − f_0 grows as the image gets dark: 0.5 → 0.75 of half an image. Only the deletion form goes below 0.
    model, images = Share([[[0.25, 0.25]]]), torch.ones(1, 1, 1, 2)
    maps, targets = torch.tensor([[[1.0, 0.0]]]), torch.tensor([1])
    found = [measure(key, model, images, targets, maps=maps, **FEW).values for key in ALL]
    assert [float(v[0]) for v in found] == pytest.approx([0.0, 1.0, -0.5], abs=1e-6)


MUTATIONS = {
    "the raw map": (
        DROPS,
        lambda monkey: monkey.setattr(reference, "normalised", lambda a: [[float(v) for v in row] for row in a * 0.9]),
    ),
    "upside down": (
        ALL,
        lambda monkey: monkey.setattr(
            reference, "normalised", lambda a, right=reference.normalised: reference.inverse(right(a))
        ),
    ),
    "a hard mask": (
        DROPS,
        lambda monkey: monkey.setattr(
            reference,
            "normalised",
            lambda a, right=reference.normalised: [[float(m > 0.5) for m in row] for row in right(a)],
        ),
    ),
    "the probability of another class": (
        ALL,
        lambda monkey: monkey.setattr(
            reference, "probability", lambda m, x, t, right=reference.probability: right(m, x, (t + 1) % 4)
        ),
    ),
    "the mean for black": (
        ALL,
        lambda monkey: monkey.setattr(
            reference, "shown", lambda x, m, colour, right=reference.shown: right(x, m, colour + 0.5)
        ),
    ),
    "logits": (
        DROPS,
        lambda monkey: monkey.setattr(
            reference, "probability", lambda m, x, t: float(reference.exact(m)(x.double()[None])[0, t])
        ),
    ),
    "the difference alone": (
        DROPS,
        lambda monkey: monkey.setattr(
            reference,
            "before_and_after",
            lambda *a, right=reference.before_and_after: (1.0, 1.0 - right(*a)[0] + right(*a)[1]),
        ),
    ),
}


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, (keys, _) in MUTATIONS.items() for key in keys])
def test_a_wrong_reference_would_be_seen(name, key, monkeypatch):
    small = tiny_subject()
    found = measure(key, *small.call, maps=small.maps, **FEW).values
    MUTATIONS[name][1](monkeypatch)
    with torch.no_grad():
        assert np.abs(found - expected(key, small)).max() > 100 * TOLERANCE


@pytest.mark.parametrize("key", ALL)
def test_value_matched_noise_agrees_with_the_reference(tiny, key):
    found = measure(key, *tiny.call, maps=tiny.maps, **FEW)
    assert set(found.parts) == {f"matched/{member}" for member in MEMBERS}
    for member in ("noise", "noise_14"):  # on coarser grids noise has ties at the border
        for draw in range(2):
            noise = explain(member, *tiny.call, draw=draw)
            moved = [perturbed.matched(a[None], a, b)[0] for a, b in zip(tiny.maps, noise, strict=True)]
            right = expected(key, tiny, moved)
            np.testing.assert_allclose(found.parts[f"matched/{member}"][draw], right, rtol=0, atol=TOLERANCE)
            assert np.abs(found.values - right).max() > 0.01


@pytest.mark.parametrize("key", ALL)
def test_only_the_shape_of_a_map_counts(tiny, key):
    one = measure(key, *tiny.call, maps=tiny.maps, **FEW)
    for maps in (5 * tiny.maps - 7, tiny.maps * 2.0**100):
        other = measure(key, *tiny.call, maps=maps, **FEW)
        np.testing.assert_allclose(other.values, one.values, rtol=0, atol=TOLERANCE)
    alone = measure(key, *tiny.call, maps=tiny.maps * torch.arange(1.0, 8).view(-1, 1, 1), **FEW)
    np.testing.assert_allclose(alone.values, one.values, rtol=0, atol=TOLERANCE)


def test_masks_run_from_0_to_1_also_for_numbers_whose_difference_overflows():
    found = normalised(torch.tensor([[-3e38, 0.0], [3e38, 3e38]]))
    assert found.tolist() == [[0.0, 0.5], [1.0, 1.0]]
    assert normalised(torch.full((2, 2), -3.0)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("key", ALL)
def test_a_flat_map_has_no_score(tiny, key):
    maps = tiny.maps.clone()
    maps[3] = 2.0
    found, others = (measure(key, *tiny.call, maps=m, **FEW) for m in (maps, tiny.maps))
    assert found.flat.tolist() == [i == 3 for i in range(7)]
    assert (found.valid == ~found.flat).all()
    kept = ~found.flat
    assert np.array_equal(found.values[kept], others.values[kept])


@pytest.mark.parametrize("key", ALL)
def test_a_class_of_no_probability_has_nothing_to_lose(key):
    model = Linear(torch.full((3, 12, 10), -1.0))  # f_0 = 1 / (1 + exp(Σ x)), with Σ x about 180: 0 in float32
    small = small_subject(model, 12, 10)
    targets = torch.tensor([0, 1, 1, 1, 0, 1, 1])
    found = measure(key, model, small.inputs, targets, maps=small.maps, **FEW)
    assert found.valid.tolist() == [t == 1 for t in targets]
    assert not found.flat.any()


@pytest.mark.parametrize("key", ALL)
def test_a_mask_that_hides_nothing_changes_nothing(tiny, key):
    # pixels where the image is black already
    inputs = tiny.inputs.clone()
    inputs[:, :, :3] = 0.0
    maps = torch.ones(7, 12, 10)
    maps[:, :3] = tiny.maps[:, :3]
    maps[:, 0, 0] = 0.0
    found = measure(key, tiny.model, inputs, tiny.targets, maps=maps if key != ALL[2] else 1 - maps, **FEW)
    assert found.values == pytest.approx(np.zeros(7), abs=TOLERANCE)


def test_average_drop_and_increase_are_the_same_forward_passes():
    small = tiny_subject()
    subject = Subject(small.model, small.inputs, small.targets, content_ids(small.inputs))
    study = Study(subject, 7, given=small.maps)
    passes = []
    with forwards(small.model) as seen:
        for key in ALL:
            for substrate in ("black", "zero"):  # one colour in this space
                scores = METRICS[key].measure(study, METRICS[key].parameters(FEW | {"substrate": substrate}))
                passes.append(scores.passes)
    each = 1 + FEW["noise_draws"] * len(MEMBERS)
    assert sum(seen) == 7 * (1 + each + each)
    assert passes == [7 * (1 + each)] * 6


@pytest.mark.parametrize("key", ALL)
def test_any_batch_and_order(tiny, key):
    def score(rows, batch):
        some = tiny.take(rows)
        return measure(key, *some.call, maps=some.maps, batch=batch, **FEW).values

    every_batch_and_order(score, tolerance=TOLERANCE)


@pytest.mark.parametrize("key", ALL)
def test_nothing_is_touched(tiny, key):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
        measure(key, *tiny.call, maps=tiny.maps, **FEW)


@pytest.mark.parametrize("key", ALL)
def test_without_opponents_it_says_so(tiny, key):
    with pytest.raises(CardgenError) as caught:
        measure(key, *tiny.call, maps=tiny.maps, noise_draws=0)
    assert str(caught.value) == f"{key} with 0 draws of noise; expected at least 1; raise the parameter noise_draws"
