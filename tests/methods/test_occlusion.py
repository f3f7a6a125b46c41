"""Occlusion against its slow reference, by hand; its windows against every size of image."""

import pytest
import torch
from reference import methods as reference
from small_models import Share, Tiny, every_batch_and_order, lively, seeded, small_subject, untouched

from cardgen import explain
from cardgen.errors import CardgenError
from cardgen.methods import METHODS
from cardgen.methods.occlusion import positions, spans
from cardgen.space import Space

KEY = "occlusion"
SPACE = Space((-1.0,), (3.0,), (0.25,))
QUARTERS = {"window": 0.5, "stride": 0.25}  # on 12 × 8 pixels: windows of 6 × 4, 3 and 2 pixels apart
WINDOWS = [(top, left, 6, 4) for top in (0, 3, 6) for left in (0, 2, 4)]


@pytest.fixture
def small():
    """Twelve by eight pixels, which quarters divide."""
    return small_subject(lively(seeded(0, lambda: Tiny(width=8))), 12, 8)


def expected(small, i, colour=0.5, windows=WINDOWS, target=None):
    image = small.inputs[i]
    target = int(small.targets[i]) if target is None else target
    return reference.occlusion(small.model, image, target, torch.full_like(image, colour), windows)


def test_agrees_with_the_reference(small):
    found = explain(KEY, *small.call, **QUARTERS)
    for i in (0, 3):
        torch.testing.assert_close(found[i].double(), expected(small, i), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("background", "colour"), [("grey", 1.0), ("black", -1.0), ("white", 3.0), ("mean", 0.25), ("zero", 0.0)]
)
def test_backgrounds_are_colours_of_the_space(small, background, colour):
    found = explain(KEY, *small.call, **QUARTERS, background=background, space=SPACE)
    torch.testing.assert_close(found[1].double(), expected(small, 1, colour), rtol=1e-4, atol=1e-6)


def test_by_hand():
    # f_0 = 0.4 a + 0.2 d on an image of ones over black, a at (0, 0) and d at (1, 1) of 4 × 4 pixels; windows of 2 × 2, one pixel apart.
    # The window at (0, 0) costs 0.6, those at (0, 1), (1, 0) and (1, 1) cost 0.2, the other five nothing.
    # (0, 1) is in the windows at (0, 0) and (0, 1): (0.6 + 0.2)/2. (1, 1) is in four: 1.2/4. (1, 2) in four, of which two cost: 0.4/4.
    # (0, 2) is in the windows at (0, 1) and (0, 2): 0.2/2. (2, 2) in (1, 1), (1, 2), (2, 1), (2, 2): 0.2/4. Column 3: none.
    weights = torch.zeros(1, 4, 4)
    weights[0, 0, 0], weights[0, 1, 1] = 0.4, 0.2
    found = explain(KEY, Share(weights), torch.ones(1, 1, 4, 4), torch.tensor([0]), **QUARTERS, background="black")
    rows = [[0.6, 0.4, 0.1, 0.0], [0.4, 0.3, 0.1, 0.0], [0.1, 0.1, 0.05, 0.0], [0.0, 0.0, 0.0, 0.0]]
    torch.testing.assert_close(found[0], torch.tensor(rows), rtol=0, atol=1e-6)


def test_windows_side_by_side_give_each_its_own_drop():
    weights = torch.rand(1, 8, 8) / 64
    found = explain(
        KEY, Share(weights), torch.ones(1, 1, 8, 8), torch.tensor([0]), window=0.125, stride=0.125, background="black"
    )
    torch.testing.assert_close(found, weights, rtol=1e-3, atol=1e-6)


def test_evidence_against_the_class_is_negative():
    weights = torch.zeros(1, 4, 4)
    weights[0, :2, :2] = 0.1
    found = explain(
        KEY, Share(weights), torch.ones(1, 1, 4, 4), torch.tensor([1]), window=0.5, stride=0.5, background="black"
    )
    assert (found[0, :2, :2] < -0.3).all()
    assert found[0, 2:].abs().max() < 1e-6


def test_one_window_for_all_is_the_drop_to_the_bare_background(small):
    found = explain(KEY, *small.call, window=1.0, stride=1.0)
    for i in (0, 4):
        whole, bare = (
            reference.probability(small.model, x, int(small.targets[i]))
            for x in (small.inputs[i], torch.full((3, 12, 8), 0.5))
        )
        torch.testing.assert_close(found[i], torch.full((12, 8), whole - bare), rtol=1e-4, atol=1e-6)


MUTATIONS = {
    "of another class": lambda s, i: expected(s, i, target=(int(s.targets[i]) + 1) % 4),
    "the other sign": lambda s, i: -expected(s, i),
    "over black": lambda s, i: expected(s, i, 0.0),
    "the last windows left out": lambda s, i: expected(s, i, windows=WINDOWS[:-1]),
    "windows one pixel off": lambda s, i: expected(s, i, windows=[(t, min(x + 1, 4), h, w) for t, x, h, w in WINDOWS]),
    "sums": lambda s, i: expected(s, i) * 4,
    "rows and columns changed": lambda s, i: expected(s, i, windows=[(2 * x, t // 2, 4, 4) for t, x, _, _ in WINDOWS]),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(small, name):
    found = explain(KEY, *small.call, **QUARTERS)[3].double().nan_to_num()
    assert (found - MUTATIONS[name](small, 3).nan_to_num()).abs().max() > 1e-4


class TestWindows:
    def test_at_64_pixels(self):
        found = spans(0.125, 0.0625, 64)
        assert [int(row.nonzero()[0]) for row in found] == list(range(0, 57, 4))
        assert (found.sum(1) == 8).all()
        assert (positions(0.125, 0.0625), positions(0.125, 0.125)) == (15, 8)

    def test_where_shares_do_not_divide(self):
        # windows of ⌈0.3 · 11⌉ = 4 pixels at ⌊0.2 · 11 k⌋ = 0, 2, 4, 6, and the last at 11 − 4 = 7
        assert [row.nonzero()[:, 0].tolist() for row in spans(0.3, 0.2, 11)] == [
            [start, start + 1, start + 2, start + 3] for start in (0, 2, 4, 6, 7)
        ]

    def test_shares_that_floats_cannot_hold(self):
        third = 1 / 3
        assert [row.nonzero()[:, 0].tolist() for row in spans(third, third, 6)] == [[0, 1], [2, 3], [4, 5]]
        assert (spans(0.1, 0.1, 30).sum(1) == 3).all()

    @pytest.mark.parametrize(
        ("window", "stride"), [(0.125, 0.125), (0.125, 0.0625), (0.3, 0.2), (0.07, 0.07), (1.0, 0.4)]
    )
    def test_every_pixel_is_covered_by_as_many_windows_on_any_image(self, window, stride):
        for side in (1, 2, 5, 10, 17, 64, 97, 224):
            found = spans(window, stride, side)
            assert found.shape == (positions(window, stride), side)
            assert found.any(0).all()
            assert found[-1, -1]
            assert found[0, 0]
            assert found.sum(1).unique().numel() == 1

    @pytest.mark.parametrize(("height", "width"), [(12, 8), (8, 23), (16, 5)])
    def test_passes_are_exact_on_any_shape(self, height, width):
        model = Share(torch.rand(1, height, width) / 500)
        seen = []
        model.register_forward_hook(lambda _, __, out: seen.append(len(out)))
        parameters = {"window": 0.3, "stride": 0.2}
        explain(KEY, model, torch.rand(3, 1, height, width), torch.tensor([0, 1, 0]), batch=16, **parameters)
        assert sum(seen) == 3 * METHODS[KEY].passes(parameters) == 3 * (5**2 + 1)
        assert seen == [16] * 4 + [14]

    @pytest.mark.parametrize(("window", "stride"), [(0.125, 0.25), (0.0, 0.0), (0.5, 0.0), (1.5, 0.5), (0.5, -0.1)])
    def test_windows_that_leave_gaps_are_refused(self, small, window, stride):
        with pytest.raises(CardgenError) as caught:
            explain(KEY, *small.call, window=window, stride=stride)
        assert str(caught.value) == (
            f"occlusion: window {window} and stride {stride}; expected shares of the image's side with 0 < stride ≤ window ≤ 1, "
            f"so that every pixel is covered; choose such"
        )


def test_every_declared_value_is_allowed_in_every_budget():
    from cardgen.budgets import BUDGETS, sized
    from cardgen.methods import Explainer

    method = METHODS[KEY]
    for budget in BUDGETS.values():
        explainer = Explainer(method, method.parameters(sized(method.defaults, budget.method)))
        assert all(variation.passes > 16 for variation in explainer.variations())


def test_any_batch_and_order(small):
    every_batch_and_order(lambda rows, batch: explain(KEY, *small.take(rows).call, batch=batch, **QUARTERS).numpy())


def test_nothing_is_touched(small):
    small.model.train()
    with untouched(small.model, small.inputs, small.targets):
        explain(KEY, *small.call, **QUARTERS)
