"""The controls: priors against slow references, noise against what it claims."""

import pytest
import torch
from reference import methods as reference
from small_models import every_batch_and_order, untouched

from cardgen import explain
from cardgen.errors import CardgenError
from cardgen.space import Space

NOISE = ("noise", "noise_1", "noise_4", "noise_7", "noise_14")
CONTROLS = (*NOISE, "constant", "centred_gaussian", "edges", "input_magnitude", "planted_truth", "mean_mask")
SAME = ("constant", "centred_gaussian", "mean_mask")
"""Controls that give all samples of a subject one map; the last of them knows the masks of all."""


def test_centred_gaussian(tiny):
    wanted = reference.centred_gaussian(12, 10)
    for found in explain("centred_gaussian", *tiny.call):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


def test_centred_gaussian_by_hand(tiny):
    # on 12 × 10 the corner is 5.5 and 4.5 pixels off, σ 3 and 2.5: exp(−((5.5/3)² + (4.5/2.5)²)/2) = exp(−3.3006) = 0.03686
    found = explain("centred_gaussian", *tiny.call)[0]
    assert found[0, 0].item() == pytest.approx(0.03686, abs=2e-5)
    assert torch.equal(found, found.flip(0))
    assert torch.equal(found, found.flip(1))


def test_edges(tiny):
    found = explain("edges", *tiny.call)
    for i in (0, 4):
        torch.testing.assert_close(found[i].double(), reference.edges(tiny.inputs[i]), rtol=1e-4, atol=1e-5)


def test_edges_by_hand(tiny):
    # a step of 1 between columns 4 and 5: both see (1 + 2 + 1)·1 = 4, all others nothing
    inputs = torch.zeros(1, 3, 12, 10)
    inputs[..., 5:] = 1.0
    found = explain("edges", tiny.model, inputs, torch.tensor([0]))[0]
    assert torch.equal(found[:, 4:6], torch.full((12, 2), 4.0))
    assert found.sum() == 12 * 2 * 4


def test_input_magnitude(tiny):
    space = Space((-1.0,), (3.0,), (0.25, 0.5, 0.1))
    found = explain("input_magnitude", *tiny.call, space=space)
    mean = torch.tensor([0.25, 0.5, 0.1], dtype=torch.float64).view(3, 1, 1)
    for i in (0, 4):
        torch.testing.assert_close(
            found[i].double(), reference.input_magnitude(tiny.inputs[i], mean), rtol=1e-4, atol=1e-6
        )


def test_constant_and_planted_truth(tiny):
    assert torch.equal(explain("constant", *tiny.call), torch.ones(7, 12, 10))
    assert torch.equal(explain("planted_truth", *tiny.call, masks=tiny.masks), tiny.masks.float())
    with pytest.raises(CardgenError, match="the planted truth needs ground-truth masks"):
        explain("planted_truth", *tiny.call)


def test_mean_mask(tiny):
    counts = sum(mask.long() for mask in tiny.masks)
    found = explain("mean_mask", *tiny.call, masks=tiny.masks, batch=2)
    assert torch.equal(found, (counts / 7).expand(7, -1, -1))
    assert 0 < found.max() < 1


def test_mean_mask_by_hand(tiny):
    # of four masks three hold the pixel at 1, 2, one that at 5, 6
    masks = torch.zeros(4, 12, 10, dtype=torch.bool)
    masks[:3, 1, 2], masks[3, 5, 6] = True, True
    for found in explain("mean_mask", *tiny.take([0, 1, 2, 3]).call, masks=masks):
        assert found[1, 2] == 0.75
        assert found[5, 6] == 0.25
        assert found.sum() == 1


def test_mean_mask_without_masks(tiny):
    with pytest.raises(CardgenError) as caught:
        explain("mean_mask", *tiny.call)
    assert str(caught.value) == (
        "the average mask needs ground-truth masks; the data has none; give masks= or a masks/ folder"
    )


class TestNoise:
    @pytest.mark.parametrize("key", NOISE)
    def test_holds_no_information(self, tiny, key):
        """The same for another model, other targets, and other neighbours; another for each sample, draw and seed."""
        found = explain(key, *tiny.call)
        assert torch.equal(found, explain(key, torch.nn.Flatten(), tiny.inputs, tiny.targets.flip(0)))
        assert torch.equal(found[[5, 1]], explain(key, *tiny.take([5, 1]).call))
        assert not torch.equal(found[0], found[1])
        assert not torch.equal(found, explain(key, *tiny.call, draw=1))
        assert not torch.equal(found, explain(key, *tiny.call, seed=1))

    @pytest.mark.parametrize("key", [key for key in NOISE if key != "noise_1"])
    def test_is_uncorrelated_with_anything(self, key):
        inputs = torch.rand(200, 3, 28, 28, generator=torch.Generator().manual_seed(0))
        found = explain(key, torch.nn.Flatten(), inputs, torch.zeros(200, dtype=torch.int64))
        assert found.mean().item() == pytest.approx(0.5, abs=0.03)
        assert 0 <= found.min() < found.max() < 1
        pixel, luminance = found.flatten(1), inputs.mean(1).flatten(1)
        both = torch.stack([pixel.flatten(), luminance.flatten()])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 0.01
        other = explain(key, torch.nn.Flatten(), inputs, torch.zeros(200, dtype=torch.int64), draw=1).flatten()
        assert abs(float(torch.corrcoef(torch.stack([pixel.flatten(), other]))[0, 1])) < 0.05

    def test_a_bump_falls_off_from_a_place_that_may_be_anywhere(self):
        inputs = torch.rand(
            300, 1, 24, 16, generator=torch.Generator().manual_seed(0)
        )  # each sample has a generator of its own
        maps = explain("noise_1", torch.nn.Flatten(), inputs, torch.zeros(300, dtype=torch.int64))
        peaks = maps.flatten(1).argmax(1)
        assert peaks.unique().numel() > 150
        rows, columns = (peaks // 16).double(), (peaks % 16).double()
        assert rows.mean().item() == pytest.approx(11.5, abs=1.2)
        assert columns.mean().item() == pytest.approx(7.5, abs=0.8)
        # from pixel to pixel 1/f − 1 is a sum of two squares, in the rows and in the columns: its second differences are constant,
        # 2 / width², with widths between 1/12 and 1/4 of the side
        inverse = 1 / maps.double()
        for axis, side in ((1, 24), (2, 16)):
            bends = inverse.diff(n=2, dim=axis)
            widths = (2 / bends.flatten(1).mean(1)).sqrt() / side
            assert (bends.flatten(1).std(1) < 1e-2 * bends.flatten(1).mean(1)).all()
            assert 1 / 12 - 1e-3 < widths.min() < 0.1
            assert 0.23 < widths.max() < 1 / 4 + 1e-3

    def test_members_differ(self, tiny):
        maps = [explain(key, *tiny.call)[0] for key in NOISE]
        assert all(not torch.allclose(a, b) for i, a in enumerate(maps) for b in maps[i + 1 :])

    @pytest.mark.parametrize("grid", [4, 7])
    def test_smooth_members_are_grids_upsampled(self, tiny, grid):
        rows = torch.from_numpy(reference.interpolation(grid, 12))
        columns = torch.from_numpy(reference.interpolation(grid, 10))
        for found in explain(f"noise_{grid}", *tiny.call).double():
            coarse = torch.linalg.pinv(rows) @ found @ torch.linalg.pinv(columns).T
            torch.testing.assert_close(rows @ coarse @ columns.T, found, rtol=1e-4, atol=1e-6)
            assert 0 <= coarse.min() < coarse.max() < 1
            assert coarse.unique().numel() == grid**2

    def test_uniform_noise_is_uniform(self):
        inputs = torch.rand(50, 3, 28, 28, generator=torch.Generator().manual_seed(0))
        found = explain("noise", torch.nn.Flatten(), inputs, torch.zeros(50, dtype=torch.int64)).flatten().sort().values
        assert (found - torch.linspace(0, 1, len(found))).abs().max() < 0.015


@pytest.mark.parametrize("key", [key for key in CONTROLS if key not in SAME])
def test_any_batch_and_order(tiny, key):
    every_batch_and_order(
        lambda rows, batch: explain(key, *(s := tiny.take(rows)).call, masks=s.masks, batch=batch).numpy()
    )


@pytest.mark.parametrize("key", CONTROLS)
def test_the_model_is_never_asked(tiny, key):
    class Refuses(torch.nn.Module):
        def forward(self, x):
            raise AssertionError("a control asked the model")

    model = Refuses()
    with untouched(model, tiny.inputs, tiny.masks):
        explain(key, model, tiny.inputs, tiny.targets, masks=tiny.masks)
