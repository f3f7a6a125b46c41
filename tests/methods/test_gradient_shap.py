"""Gradient SHAP against its slow reference, by hand, and against integrated gradients."""

import pytest
import torch
from reference import gradient_family as reference
from reference import methods
from small_models import Linear, every_batch_and_order, untouched
from torch import nn

from cardgen import explain
from cardgen.draws import content_ids, generator
from cardgen.errors import CardgenError
from cardgen.space import Space

KEY = "gradient_shap"
SPACE = Space((-1.0, 0.0, -5.0), (3.0, 1.0, 5.0), (0.0,))
SIZES = {"colours": (3, 1, 1), "random": (3, 12, 10)}


def drawn(small, i, n_samples, baselines="colours", low=0.0, width=1.0):
    """A sample's baselines and steps, one after another from its own generator."""
    draws = generator(0, KEY, 0, content_ids(small.inputs)[i])
    found = []
    for _ in range(n_samples):
        colour = low + width * torch.rand(SIZES[baselines], generator=draws)
        found.append((colour.expand(3, 12, 10), torch.rand((), generator=draws)))
    return found


def expected(small, i, pairs, target=None):
    return reference.gradient_shap(
        small.model, small.inputs[i], int(small.targets[i]) if target is None else target, pairs
    )


def near(found, wanted):
    torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("batch", [4, 32])
@pytest.mark.parametrize("baselines", SIZES)
def test_agrees_with_the_reference(tiny, baselines, batch):
    options = {"n_samples": 9, "baselines": baselines, "batch": batch}
    found, maps = (explain(KEY, *tiny.call, reduce=r, **options) for r in (False, True))
    for i in (0, 3):
        wanted = expected(tiny, i, drawn(tiny, i, 9, baselines))
        near(found[i], wanted)
        near(maps[i], wanted.sum(0))


def test_baselines_lie_in_the_range_of_each_channel(tiny):
    found = explain(KEY, *tiny.call, reduce=False, n_samples=5, space=SPACE)
    low, width = torch.tensor([-1.0, 0, -5])[:, None, None], torch.tensor([4.0, 1, 10])[:, None, None]
    near(found[2], expected(tiny, 2, drawn(tiny, 2, 5, low=low, width=width)))


def test_by_hand(monkeypatch):
    # s = x₁² on a pixel x = 1 and s = x₁² for x₂ too: the gradient is 2z at z = x' + α (x − x').
    # Baseline 0.5, α = 0.2: z = 0.6, (1 − 0.5) · 1.2 = 0.6. Baseline 0, α = 0.9: z = 0.9, 1 · 1.8 = 1.8. The mean is 1.2.
    class Square(nn.Module):
        def forward(self, x):
            return x.square().sum((1, 2, 3))[:, None]

    numbers = iter([0.5, 0.2, 0.0, 0.9])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.full((1, 1, 1), next(numbers)))
    found = explain(KEY, Square(), torch.ones(1, 1, 1, 2), torch.tensor([0]), n_samples=2)
    assert found.flatten().tolist() == pytest.approx([1.2, 1.2])


class TestExpectation:
    def test_many_draws_are_integrated_gradients_averaged_over_baselines(self, tiny):
        one = tiny.take([3])
        found = explain(KEY, *one.call, reduce=False, n_samples=3000)[0].double()
        colours = [colour for colour, _ in drawn(tiny, 3, 200)]
        image, target = one.inputs[0], int(one.targets[0])
        average = sum(methods.integrated_gradients(one.model, image, target, c, 8) for c in colours) / 200
        black = methods.integrated_gradients(one.model, image, target, torch.zeros_like(image), 8)
        assert (found - average).norm() < 0.15 * average.norm()
        assert (found - black).norm() > 0.5 * average.norm()

    def test_the_sum_is_the_score_less_the_mean_score_of_the_baselines(self, tiny):
        total = explain(KEY, *tiny.call, n_samples=1500).sum((1, 2))
        shade = torch.rand(4000, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, 3, 12, 10)
        with torch.no_grad():
            gains = (tiny.model(tiny.inputs) - tiny.model(shade).mean(0))[range(7), tiny.targets]
        assert (total - gains).abs().max() < 0.25 * gains.abs().max()
        assert torch.corrcoef(torch.stack([total, gains]))[0, 1] > 0.97

    def test_one_draw_of_a_straight_model_is_the_weight_times_the_way_from_the_baseline(self, tiny):
        w = torch.rand(3, 12, 10) - 0.5
        found = explain(KEY, Linear(w), tiny.inputs, 0 * tiny.targets, reduce=False, n_samples=1)
        for i in range(7):
            ((colour, _),) = drawn(tiny, i, 1)
            torch.testing.assert_close(found[i], w * (tiny.inputs[i] - colour))


def test_the_first_draws_of_many_are_the_few(tiny):
    sums = [k * explain(KEY, *tiny.call, reduce=False, n_samples=k) for k in (2, 6)]
    later = 4 * expected(tiny, 5, drawn(tiny, 5, 6)[2:])
    near((sums[1] - sums[0])[5], later)


MUTATIONS = {
    "of another class": lambda s, p: expected(s, 3, p, target=0),
    "without the factor": lambda s, p: expected(s, 3, p) / s.inputs[3].double(),
    "the factor x": lambda s, p: sum(
        expected(s, 3, [one]) * s.inputs[3] / (s.inputs[3] - one[0]).double() for one in p
    ) / len(p),
    "from the other end": lambda s, p: expected(s, 3, [(colour, 1 - share) for colour, share in p]),
    "one step for all": lambda s, p: expected(s, 3, [(colour, p[0][1]) for colour, _ in p]),
    "one baseline for all": lambda s, p: expected(s, 3, [(p[0][0], share) for _, share in p]),
    "one draw fewer": lambda s, p: expected(s, 3, p[:-1]),
    "the draws of another": lambda s, p: expected(s, 3, drawn(s, 2, len(p))),
    "greys": lambda s, p: expected(s, 3, [(colour[:1].expand(3, 12, 10), share) for colour, share in p]),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name):
    found = explain(KEY, *tiny.call, reduce=False, n_samples=6)[3].double()
    assert (found - MUTATIONS[name](tiny, drawn(tiny, 3, 6))).abs().max() > 0.02 * found.abs().max()


def test_refusals(tiny):
    with pytest.raises(CardgenError, match=r"^gradient_shap: n_samples is 0; expected at least 1; choose more$"):
        explain(KEY, *tiny.call, n_samples=0)
    with pytest.raises(CardgenError, match=r"^gradient_shap: no distribution of baselines is called 'colour'"):
        explain(KEY, *tiny.call, baselines="colour")
    with pytest.raises(CardgenError, match=r"^inputs reach from"):
        explain(KEY, tiny.model, tiny.inputs * 255, tiny.targets)


def test_the_model_sees_full_batches(tiny):
    sizes = []
    handle = tiny.model.register_forward_hook(lambda _, __, out: sizes.append(len(out)))
    explain(KEY, *tiny.call, n_samples=5, batch=3)
    handle.remove()
    assert sizes == [3] * 5 + [3] * 5 + [3, 2]


def test_any_batch_and_order(tiny):
    every_batch_and_order(
        lambda rows, batch: explain(KEY, *tiny.take(rows).call, batch=batch, n_samples=5).numpy(), tolerance=1e-5
    )


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        explain(KEY, *tiny.call, n_samples=3)
