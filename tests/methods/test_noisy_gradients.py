"""SmoothGrad-Squared, VarGrad and IG-SG against their slow references, by hand, and against each other."""

import pytest
import torch
from reference import gradient_family as reference
from reference import methods
from small_models import Linear, every_batch_and_order, untouched
from torch import nn

from cardgen import explain
from cardgen.draws import content_ids, generator
from cardgen.errors import CardgenError
from cardgen.space import Space, gaussian_blur

KEYS = ("smoothgrad_squared", "vargrad", "ig_smoothgrad")
SPACE = Space((-1.0,), (3.0,), (0.25,))


def noise(small, i, n_samples, sigma=0.15):
    """σ times a sample's draws: those of SmoothGrad, whichever method it is."""
    draws = generator(0, "smoothgrad", 0, content_ids(small.inputs)[i])
    return [sigma * torch.randn(small.inputs.shape[1:], generator=draws) for _ in range(n_samples)]


def expected(key, small, i, drawn, *rest, target=None):
    target = int(small.targets[i]) if target is None else target
    return getattr(reference, key)(small.model, small.inputs[i], target, drawn, *rest)


def near(found, wanted):
    scale = wanted.abs().max()
    torch.testing.assert_close(found.double() / scale, wanted / scale, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("batch", [4, 32])
@pytest.mark.parametrize("key", ["smoothgrad_squared", "vargrad"])
def test_statistics_agree_with_the_reference(tiny, key, batch):
    found, maps = (explain(key, *tiny.call, reduce=r, n_samples=9, batch=batch) for r in (False, True))
    for i in (0, 3):
        wanted = expected(key, tiny, i, noise(tiny, i, 9))
        near(found[i], wanted)
        near(maps[i], wanted.amax(0))


def test_ig_smoothgrad_agrees_with_the_reference(tiny):
    found, maps = (explain("ig_smoothgrad", *tiny.call, reduce=r, n_samples=3, steps=4) for r in (False, True))
    for i in (0, 3):
        wanted = expected("ig_smoothgrad", tiny, i, noise(tiny, i, 3), torch.zeros(3, 12, 10), 4)
        near(found[i], wanted)
        near(maps[i], wanted.sum(0))


@pytest.mark.parametrize(("baseline", "colour"), [("black", -1.0), ("white", 3.0), ("mean", 0.25)])
def test_noise_and_baseline_go_with_the_space(tiny, baseline, colour):
    options = {"n_samples": 3, "noise_level": 0.1, "space": SPACE, "reduce": False}
    drawn = noise(tiny, 2, 3, 0.1 * 4)
    for key in ("smoothgrad_squared", "vargrad"):
        near(explain(key, *tiny.call, **options)[2], expected(key, tiny, 2, drawn))
    found = explain("ig_smoothgrad", *tiny.call, steps=4, baseline=baseline, **options)
    near(found[2], expected("ig_smoothgrad", tiny, 2, drawn, torch.full((3, 12, 10), colour), 4))


def test_the_blurred_baseline_is_of_the_image_and_not_of_its_noisy_copies(tiny):
    found = explain("ig_smoothgrad", *tiny.call, reduce=False, n_samples=2, steps=4, baseline="blur")
    blurred = gaussian_blur(tiny.inputs)[1]
    near(found[1], expected("ig_smoothgrad", tiny, 1, noise(tiny, 1, 2), blurred, 4))


class Square(nn.Module):
    """s_0 = Σ x²/2, so the gradient is the noisy input itself."""

    def forward(self, x):
        score = (x**2).sum((1, 2, 3)) / 2
        return torch.stack([score, 0 * score], 1)


def test_statistics_by_hand(monkeypatch):
    # s = Σ x²/2 has the gradient x + ε. x = (0.5, 0.2), noise σ ε = (0.1, −0.2) and (−0.3, 0.4):
    # gradients (0.6, 0) and (0.2, 0.6); mean squares (0.2, 0.18); mean (0.4, 0.3); variances ((0.2)², (0.3)²) = (0.04, 0.09).
    drawn = iter([torch.tensor([[[1.0, -2.0]]]), torch.tensor([[[-3.0, 4.0]]])] * 2)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: next(drawn))
    x, options = torch.tensor([[[[0.5, 0.2]]]]), {"reduce": False, "n_samples": 2, "noise_level": 0.1}
    for key, wanted in (("smoothgrad_squared", [0.2, 0.18]), ("vargrad", [0.04, 0.09])):
        found = explain(key, Square(), x, torch.tensor([0]), **options)
        assert found.flatten().tolist() == pytest.approx(wanted)


def test_ig_smoothgrad_by_hand(monkeypatch):
    # s = 2 x₁ − 3 x₂ from black, x = (0.5, 0.2): each copy gives w (x + ε − 0). Noise 0.1 (1, −2), 0.1 (−3, 4) has the mean
    # (−0.1, 0.1), so the attributions are (2 · 0.4, −3 · 0.3) = (0.8, −0.9), whatever the steps.
    drawn = iter([torch.tensor([[[1.0, -2.0]]]), torch.tensor([[[-3.0, 4.0]]])])
    monkeypatch.setattr(torch, "randn", lambda *_, **__: next(drawn))
    model, x = Linear([[[2.0, -3.0]]]), torch.tensor([[[[0.5, 0.2]]]])
    found = explain("ig_smoothgrad", model, x, torch.tensor([0]), n_samples=2, noise_level=0.1, steps=3)
    assert found.flatten().tolist() == pytest.approx([0.8, -0.9])


class TestLimits:
    def test_without_noise(self, tiny):
        quiet = {"reduce": False, "noise_level": 0.0}
        gradient = explain("vanilla_gradients", *tiny.call, reduce=False)
        squared = explain("smoothgrad_squared", *tiny.call, n_samples=3, **quiet)
        torch.testing.assert_close(squared, gradient.square())
        assert not explain("vargrad", *tiny.call, n_samples=3, batch=2, **quiet).abs().max() > 1e-12
        found = explain("ig_smoothgrad", *tiny.call, n_samples=2, steps=7, **quiet)
        torch.testing.assert_close(found, explain("integrated_gradients", *tiny.call, reduce=False, steps=7))

    @pytest.mark.parametrize("batch", [3, 32])
    def test_squared_is_the_variance_and_the_square_of_the_mean(self, tiny, batch):
        mean, squared, variance = (
            explain(key, *tiny.call, reduce=False, n_samples=6, batch=batch)
            for key in ("smoothgrad", "smoothgrad_squared", "vargrad")
        )
        torch.testing.assert_close(squared, variance + mean.square(), rtol=1e-4, atol=1e-7)

    def test_gradients_that_do_not_vary_have_no_variance(self, tiny):
        """The squared mean taken from the mean square leaves rounding here, of either sign."""
        model = Linear(1000 + torch.rand(3, 12, 10))
        found = explain("vargrad", model, tiny.inputs, 0 * tiny.targets, reduce=False, n_samples=7, batch=4)
        assert 0 <= found.min() <= found.max() < 1e-6
        g = explain("vanilla_gradients", model, tiny.inputs, 0 * tiny.targets, reduce=False)
        assert (sum([g.square()] * 7) / 7 - (sum([g] * 7) / 7).square()).abs().max() > 1e-3

    def test_the_sum_of_ig_smoothgrad_is_the_mean_score_of_the_copies_less_the_baselines(self, tiny):
        total = explain("ig_smoothgrad", *tiny.call, n_samples=4, steps=50).sum((1, 2))
        rows = range(7)
        with torch.no_grad():
            copies = [tiny.model(tiny.inputs[i] + torch.stack(noise(tiny, i, 4))).mean(0) for i in rows]
            gains = torch.stack(copies) - tiny.model(torch.zeros(1, 3, 12, 10))
        gains = gains[rows, tiny.targets]
        assert (total - gains).abs().max() < 0.02 * gains.abs().max()


def zeros():
    return torch.zeros(3, 12, 10)


MUTATIONS = {
    ("smoothgrad_squared", "not squared"): lambda s, e: methods.smoothgrad(s.model, s.inputs[3], 3, e),
    ("smoothgrad_squared", "the mean squared"): lambda s, e: methods.smoothgrad(s.model, s.inputs[3], 3, e) ** 2,
    ("smoothgrad_squared", "the sum"): lambda s, e: expected("smoothgrad_squared", s, 3, e) * len(e),
    ("smoothgrad_squared", "of another class"): lambda s, e: expected("smoothgrad_squared", s, 3, e, target=0),
    ("smoothgrad_squared", "one copy fewer"): lambda s, e: expected("smoothgrad_squared", s, 3, e[:-1]),
    ("vargrad", "divided by one less"): lambda s, e: expected("vargrad", s, 3, e) * len(e) / (len(e) - 1),
    ("vargrad", "the standard deviation"): lambda s, e: expected("vargrad", s, 3, e).sqrt(),
    ("vargrad", "about zero"): lambda s, e: expected("smoothgrad_squared", s, 3, e),
    ("vargrad", "the noise of another"): lambda s, e: expected("vargrad", s, 3, noise(s, 2, len(e))),
    ("ig_smoothgrad", "the factor without noise"): lambda s, e: (
        sum(expected("ig_smoothgrad", s, 3, [one], zeros(), 4) * s.inputs[3] / (s.inputs[3] + one) for one in e)
        / len(e)
    ),
    ("ig_smoothgrad", "baseline noisy too"): lambda s, e: (
        sum(methods.integrated_gradients(s.model, s.inputs[3] + one, 3, one, 4) for one in e) / len(e)
    ),
    ("ig_smoothgrad", "without noise"): lambda s, e: methods.integrated_gradients(s.model, s.inputs[3], 3, zeros(), 4),
    ("ig_smoothgrad", "one node fewer"): lambda s, e: expected("ig_smoothgrad", s, 3, e, zeros(), 3),
}


@pytest.mark.parametrize(("key", "name"), MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, key, name):
    steps = {"steps": 4} if key == "ig_smoothgrad" else {}
    found = explain(key, *tiny.call, reduce=False, n_samples=5, **steps)[3].double()
    wrong = MUTATIONS[key, name](tiny, noise(tiny, 3, 5))
    assert (found - wrong).abs().max() > 0.02 * found.abs().max()


@pytest.mark.parametrize(("key", "least"), [("smoothgrad_squared", 1), ("vargrad", 2), ("ig_smoothgrad", 1)])
def test_refusals(tiny, key, least):
    with pytest.raises(CardgenError) as caught:
        explain(key, *tiny.call, n_samples=least - 1)
    assert str(caught.value) == f"{key}: n_samples is {least - 1}; expected at least {least}; choose more"
    with pytest.raises(CardgenError, match=r"^inputs reach from"):
        explain(key, tiny.model, tiny.inputs * 255, tiny.targets)


def test_no_steps_are_refused(tiny):
    for key in ("ig_smoothgrad", "integrated_gradients"):
        with pytest.raises(CardgenError, match=r"^the integral from the baseline has 0 steps; expected at least 1"):
            explain(key, *tiny.call, steps=0)


@pytest.mark.parametrize("key", KEYS)
def test_the_model_sees_full_batches(tiny, key):
    sizes = []
    handle = tiny.model.register_forward_hook(lambda _, __, out: sizes.append(len(out)))
    steps = {"steps": 2} if key == "ig_smoothgrad" else {}
    explain(key, *tiny.call, n_samples=5, batch=3, **steps)
    handle.remove()
    per_chunk = [3] * 5 + [3] * 5 + [3, 2]
    assert sizes == (per_chunk if not steps else [size for size in per_chunk for _ in range(2)])


@pytest.mark.parametrize("key", KEYS)
def test_any_batch_and_order(tiny, key):
    few = {"n_samples": 4} | ({"steps": 3} if key == "ig_smoothgrad" else {})
    every_batch_and_order(
        lambda rows, batch: explain(key, *tiny.take(rows).call, batch=batch, **few).numpy(), tolerance=1e-5
    )


@pytest.mark.parametrize("key", KEYS)
def test_nothing_is_touched(tiny, key):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        explain(key, *tiny.call, n_samples=3)
