"""RISE against its slow reference; its masks against section 3.2 of the paper."""

import pytest
import torch
from reference import methods as reference
from small_models import Share, every_batch_and_order, untouched

from cardgen import explain
from cardgen.methods.rise import BLOCK, random_masks
from cardgen.space import Space

KEY = "rise"


def masks(count, seed=0, start=0, grid=7, probability=0.5, height=12, width=10):
    return random_masks(seed, start, count, grid, probability, height, width)


def expected(small, i, drawn, colour=0.5):
    image = small.inputs[i]
    return reference.rise(small.model, image, int(small.targets[i]), drawn, torch.full_like(image, colour))


def test_agrees_with_the_reference(tiny):
    found = explain(KEY, *tiny.call, n_masks=60)
    for i in (0, 3):
        torch.testing.assert_close(found[i].double(), expected(tiny, i, masks(60)), rtol=1e-4, atol=1e-6)


def test_more_masks_than_a_block(tiny):
    found = explain(KEY, *tiny.take([2]).call, n_masks=BLOCK + 40)
    drawn = torch.cat([masks(BLOCK), masks(40, start=BLOCK)])
    torch.testing.assert_close(found[0].double(), expected(tiny, 2, drawn), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("background", "colour"), [("black", -1.0), ("white", 3.0), ("mean", 0.25), ("zero", 0.0)])
def test_backgrounds_grids_and_probabilities(tiny, background, colour):
    space = Space((-1.0,), (3.0,), (0.25,))
    found = explain(KEY, *tiny.call, n_masks=40, grid=3, probability=0.3, background=background, space=space)
    wanted = expected(tiny, 1, masks(40, grid=3, probability=0.3), colour)
    torch.testing.assert_close(found[1].double(), wanted, rtol=1e-4, atol=1e-6)


def test_by_hand(monkeypatch):
    # f_0 = 0.1 a + 0.2 b + 0.3 c + 0.4 d on an image of ones over black, so f_0(x ⊙ M) is the mask's weighted sum. Two masks:
    # [1 0; 1 0] → 0.4 and [1 1; 0 0] → 0.3. Mean of the scores of the masks that show a pixel: a (0.4 + 0.3)/2, b 0.3, c 0.4, d none: 0.
    two = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]])
    monkeypatch.setattr("cardgen.methods.rise.random_masks", lambda *_: two)
    model = Share([[[0.1, 0.2], [0.3, 0.4]]])
    found = explain(KEY, model, torch.ones(1, 1, 2, 2), torch.tensor([0]), n_masks=2, background="black")
    torch.testing.assert_close(found[0], torch.tensor([[0.35, 0.3], [0.4, 0.0]]))


MUTATIONS = {
    "divided by N p": lambda s, i, m: expected(s, i, m) * m.double().sum(0) / (len(m) * 0.5),
    "the logit": None,
    "the masks inverted": lambda s, i, m: expected(s, i, 1 - m),
    "over black": lambda s, i, m: expected(s, i, m, 0.0),
    "one mask fewer": lambda s, i, m: expected(s, i, m[:-1]),
    "another seed": lambda s, i, m: expected(s, i, masks(len(m), seed=1)),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    found, drawn = explain(KEY, *tiny.call, n_masks=30)[3].double(), masks(30)
    if MUTATIONS[name] is None:
        monkeypatch.setattr(
            reference, "probability", lambda m, x, t: float(reference.score(reference.exact(m), x, t).detach())
        )
        wrong = expected(tiny, 3, drawn)
    else:
        wrong = MUTATIONS[name](tiny, 3, drawn)
    assert (found - wrong).abs().max() > 1e-4


class TestMasks:
    @pytest.mark.parametrize(("grid", "height", "width"), [(7, 12, 10), (3, 12, 10), (4, 16, 16), (2, 5, 9)])
    def test_each_is_a_shifted_grid_of_coin_flips(self, grid, height, width):
        found = [reference.rise_grid(m, grid) for m in masks(25, grid=grid, height=height, width=width)]
        assert all(f is not None for f in found)
        cells = -(-height // grid)
        if cells > 1:
            assert len({f[0] for f in found}) > 1, "never shifted"

    def test_a_mask_of_another_kind_is_seen(self):
        smooth = torch.nn.functional.interpolate(torch.rand(1, 1, 3, 3), (12, 10), mode="bilinear")[0, 0]
        assert reference.rise_grid(smooth, 3) is None
        nearest = torch.nn.functional.interpolate((torch.rand(1, 1, 3, 3) < 0.5).float(), (12, 10))[0, 0]
        nearest[0, 0] = 0.5
        assert reference.rise_grid(nearest, 3) is None

    @pytest.mark.parametrize("probability", [0.2, 0.5, 0.8])
    def test_the_mean_is_the_chance_to_be_seen(self, probability):
        assert masks(2000, probability=probability).mean().item() == pytest.approx(probability, abs=0.01)

    def test_shifts_are_uniform(self):
        shifts = [reference.rise_grid(m, 3)[:2] for m in masks(400, grid=3)]
        for axis, cells in ((0, 4), (1, 4)):
            counts = [sum(s[axis] == k for s in shifts) for k in range(cells)]
            assert min(counts) > 400 / cells * 0.6

    def test_the_first_of_many_are_the_few(self):
        many = masks(500)
        assert torch.equal(many[:100], masks(100))
        assert torch.equal(many[200:260], masks(60, start=200))

    def test_a_probability_of_one_gives_a_flat_map(self, tiny):
        found = explain(KEY, *tiny.call, n_masks=20, probability=1.0)
        for i in range(7):
            clean = reference.probability(tiny.model, tiny.inputs[i], int(tiny.targets[i]))
            torch.testing.assert_close(found[i], torch.full((12, 10), clean), rtol=1e-5, atol=1e-6)

    def test_a_probability_of_zero_gives_zeros(self, tiny):
        assert torch.equal(explain(KEY, *tiny.call, n_masks=5, probability=0.0), torch.zeros(7, 12, 10))

    def test_one_set_serves_all_samples(self, tiny):
        twins = tiny._replace(inputs=tiny.inputs[:1].repeat(2, 1, 1, 1) + torch.tensor([0, 1e-7]).view(2, 1, 1, 1))
        found = explain(KEY, twins.model, twins.inputs, tiny.targets[[0, 0]], n_masks=20)
        torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)


def test_any_batch_and_order(tiny):
    every_batch_and_order(lambda rows, batch: explain(KEY, *tiny.take(rows).call, batch=batch, n_masks=30).numpy())


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        explain(KEY, *tiny.call, n_masks=5)
