"""The held-out controls: each is what it says, and none knows anything."""

import math

import numpy as np
import pytest
import torch
from small_models import every_batch_and_order, lively, seeded, small_subject

from cardgen import explain
from cardgen.methods import METHODS
from cardgen.methods.controls import held_out

KEYS = [key for key in METHODS if METHODS[key].entry.control == "held_out"]
DRAWN = [key for key in KEYS if METHODS[key].defaults]


def test_all_that_calibration_is_to_hold_out():
    assert set(KEYS) == {
        "noise_3", "noise_5", "noise_10", "pink_noise", "random_blob", "random_spike", "ones_but_a_corner", "heavy_noise",
        "keyed_noise", "class_noise", "fresh_noise", "dither",
    }  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_they_are_no_members_of_the_family(key):
    assert key not in ("noise", "noise_1", "noise_4", "noise_7", "noise_14")


@pytest.mark.parametrize("key", DRAWN)
def test_draws_are_independent(tiny, key):
    one, other = (explain(key, *tiny.call, draw=draw) for draw in (0, 1))
    assert all(not torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0], one[1])


@pytest.mark.parametrize("key", DRAWN)
def test_any_batch_and_order(tiny, key):
    every_batch_and_order(lambda rows, batch: explain(key, *tiny.take(rows).call, batch=batch).numpy())


@pytest.mark.parametrize("grid", [3, 5, 10])
def test_smooth_noise_is_a_grid_between_pixels(tiny, grid):
    found = held_out.smooth(grid)(torch.Generator().manual_seed(1), 4 * grid, 4 * grid)
    coarse = torch.rand((1, 1, grid, grid), generator=torch.Generator().manual_seed(1))[0, 0]
    # at a scale of 4 the middle of a cell lies between pixels 4k+1 and 4k+2, so the mean of these four is its value
    centre = sum(found[1 + i :: 4, 1 + j :: 4] for i in (0, 1) for j in (0, 1)) / 4
    inner = slice(1, -1)
    torch.testing.assert_close(centre[inner, inner], coarse[inner, inner], atol=0.26, rtol=0)
    assert 0 <= float(found.min()) < float(found.max()) < 1


@pytest.mark.parametrize(("h", "w"), [(16, 16), (12, 20)])
def test_dither_is_spread_evenly_at_all_times(h, w):
    g = torch.Generator().manual_seed(1)
    found = held_out.dither(g, h, w)
    assert len(found.unique()) == h * w
    for cell in (2, 4):
        # of the pixels taken first, each cell of so many pixels has one
        side = 16 if max(h, w) <= 16 else 32
        first = found >= side * side * (1 - 1 / cell**2)
        counts = first[: h // cell * cell, : w // cell * cell].unfold(0, cell, cell).unfold(1, cell, cell).sum((2, 3))
        assert (counts == 1).all()
    assert not torch.equal(found, held_out.dither(g, h, w))


def test_pink_noise_has_amplitudes_of_one_over_f():
    maps = torch.stack([held_out.pink(torch.Generator().manual_seed(k), 32, 24) for k in range(400)])
    power = torch.fft.fft2(maps.double()).abs().square().mean(0)
    assert maps.double().mean((1, 2)).abs().max() < 1e-6

    def radius(i, j):
        return math.hypot(min(i, 32 - i) / 32, min(j, 24 - j) / 24)

    wanted = [radius(2, 0) ** 2 * power[2, 0], radius(0, 3) ** 2 * power[0, 3], radius(9, 7) ** 2 * power[9, 7]]
    assert wanted == pytest.approx([32 * 24] * 3, rel=0.2)


def test_pink_noise_of_odd_sizes_fits():
    assert held_out.pink(torch.Generator(), 17, 9).shape == (17, 9)


def test_a_blob_falls_off_from_its_pixel():
    found = held_out.blob(torch.Generator().manual_seed(3), 16, 32)
    row, column = divmod(int(found.argmax()), 32)
    assert float(found.max()) == 1
    for i, j in ((0, 0), (15, 31), (8, 20)):
        assert float(found[i, j]) == pytest.approx(
            math.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * 2**2)), abs=1e-6
        )


def test_a_spike_is_one_pixel(tiny):
    maps = explain("random_spike", *tiny.call)
    assert maps.flatten(1).sum(1).tolist() == [1] * 7
    assert set(maps.unique().tolist()) == {0, 1}


def test_spikes_and_blobs_go_everywhere():
    places = {int(held_out.spike(torch.Generator().manual_seed(k), 4, 3).argmax()) for k in range(300)}
    assert places == set(range(12))


def test_heavy_noise_is_noise_to_the_eighth_power():
    found = held_out.heavy(torch.Generator().manual_seed(0), 100, 100)
    assert found.mean().item() == pytest.approx(1 / 9, rel=0.05)
    np.testing.assert_allclose(
        found ** (1 / 8), torch.rand((100, 100), generator=torch.Generator().manual_seed(0)), atol=1e-5
    )


def test_ones_but_a_corner(tiny):
    found = explain("ones_but_a_corner", *tiny.call)
    assert found[:, 0, 0].tolist() == [0] * 7
    assert found.flatten(1)[:, 1:].unique().tolist() == [1]


class TestKeyed:
    def changed(self, key, **changes):
        """Which samples' maps differ after a change."""
        small = small_subject(lively(seeded(0, self.model)), 12, 10)
        before = explain(key, *small.call)
        seed = changes.pop("seed", 0)
        small = small._replace(**{name: change(small) for name, change in changes.items()})
        after = explain(key, *small.call, seed=seed)
        return [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]

    @staticmethod
    def model():
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(360, 4))

    @pytest.mark.parametrize("key", ["keyed_noise", "fresh_noise"])
    def test_other_weights_and_classes_give_other_maps(self, key):
        assert self.changed(key) == [False] * 7
        assert self.changed(key, model=lambda small: seeded(1, self.model)) == [True] * 7
        assert self.changed(key, targets=lambda small: (small.targets + 1) % 4) == [True] * 7

    def test_noise_keyed_by_class_follows_the_class_alone(self):
        assert self.changed("class_noise", model=lambda small: seeded(1, self.model)) == [False] * 7
        assert self.changed("class_noise", seed=1) == [False] * 7
        assert self.changed("class_noise", targets=lambda small: (small.targets + 1) % 4) == [True] * 7

    def test_only_fresh_noise_changes_with_the_seed_and_the_input(self):
        # seven images of one name each: explain names them by their content, so an input's change is one of the name as well
        assert self.changed("keyed_noise", seed=1) == [False] * 7
        assert self.changed("fresh_noise", seed=1) == [True] * 7

    def test_fresh_noise_follows_the_values_themselves(self):
        from cardgen.methods import Context

        small = small_subject(self.model(), 12, 10, n=2)
        context = Context(("a", "b"))
        for key, changes in (("fresh_noise", True), ("keyed_noise", False)):
            one, other = (
                METHODS[key].function(small.model, x, small.targets, context)
                for x in (small.inputs, small.inputs + 1e-6)
            )
            assert torch.equal(one, other) != changes
