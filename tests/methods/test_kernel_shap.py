"""Kernel SHAP against exact Shapley values, its slow reference, and by hand."""

from collections import Counter

import pytest
import torch
from reference import superpixels as reference
from small_models import Linear

from cardgen import explain
from cardgen.draws import content_ids, generator
from cardgen.errors import CardgenError
from cardgen.methods.kernel_shap import coalitions, shapley
from cardgen.segments import superpixels
from cardgen.space import UNNORMALISED

KEY = "kernel_shap"
GREY = torch.full((3, 12, 10), 0.5)


def cut(inputs, segments):
    return superpixels(inputs, UNNORMALISED, segments)


def drawn(small, i, n, labels):
    """A sample's coalitions: its first n."""
    draws = generator(0, KEY, 0, content_ids(small.inputs)[i])
    return coalitions(int(labels.max()) + 1, 64, draws)[0][:n]


def exact(small, i, background=GREY):
    labels = cut(small.inputs, 6)[i]
    values = reference.shapley(small.model, small.inputs[i], int(small.targets[i]), labels, background)
    return reference.spread(values, labels)


def expected(small, i, n, labels):
    rows = drawn(small, i, n, labels)
    values = reference.kernel_shap(small.model, small.inputs[i], int(small.targets[i]), labels, rows, GREY)
    return reference.spread(values, labels)


def test_all_coalitions_give_exact_shapley_values(tiny):
    found = explain(KEY, *tiny.call, segments=6, n_perturbations=64)
    for i in (0, 3):
        wanted = exact(tiny, i)
        assert wanted.abs().amax() > 0.005
        torch.testing.assert_close(found[i].double(), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n", [15, 40])
def test_agrees_with_the_reference(tiny, n):
    found = explain(KEY, *tiny.call, segments=10, n_perturbations=n)
    for i in (0, 3):
        wanted = expected(tiny, i, n, cut(tiny.inputs, 10)[i])
        torch.testing.assert_close(found[i].double(), wanted, rtol=1e-4, atol=1e-6)


MUTATIONS = {
    "painted, not spread": lambda values, labels: reference.painted(values, labels),
    "of another order": lambda values, labels: honest(values[::-1], labels),
    "of the other sign": lambda values, labels: honest(-values, labels),
}
honest = reference.spread


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    monkeypatch.setattr(reference, "spread", MUTATIONS[name])
    assert (explain(KEY, *tiny.call, segments=6, n_perturbations=64)[0] - exact(tiny, 0)).abs().max() > 1e-3


def test_another_background_or_probabilities_would_be_seen(tiny, monkeypatch):
    found = explain(KEY, *tiny.call, segments=6, n_perturbations=64)[0]
    assert (found - exact(tiny, 0, torch.ones(3, 12, 10))).abs().max() > 1e-3
    monkeypatch.setattr(reference, "logit", reference.network.probability)
    assert (found - exact(tiny, 0)).abs().max() > 1e-3


def test_by_hand():
    # v(∅) = 1, v(1) = 3, v(2) = 2, v(12) = 8: φ_1 = ½ (3 − 1) + ½ (8 − 2) = 4, φ_2 = ½ (2 − 1) + ½ (8 − 3) = 3.
    present, weights = coalitions(2, 2, torch.Generator())
    assert present.tolist() == [[True, False], [False, True]]
    assert weights.tolist() == [0.5, 0.5]
    assert shapley(present, weights, torch.tensor([8.0, 1.0, 3.0, 2.0])).tolist() == pytest.approx([4, 3])


def test_weights_by_hand():
    # M = 4: π = 3 / (C(4, s) s (4 − s)) = 3 / (4·3), 3 / (6·4), 3 / (4·3)
    present, weights = coalitions(4, 16, torch.Generator())
    by_size = {int(z.sum()): float(weight) for z, weight in zip(present[:14], weights, strict=False)}
    assert by_size == pytest.approx({1: 0.25, 2: 0.125, 3: 0.25})
    assert len(present[:14].unique(dim=0)) == 14
    assert weights[14:].tolist() == [0, 0]


def test_one_superpixel_gets_all():
    model = Linear([[[2.0]]])
    found = explain(KEY, model, torch.ones(1, 1, 1, 1), torch.tensor([0]), n_perturbations=3)
    torch.testing.assert_close(found, torch.ones(1, 1, 1))


@pytest.mark.parametrize("n", [1, 5, 40])
def test_sums_to_the_difference_however_few_coalitions(tiny, n):
    found = explain(KEY, *tiny.call, segments=10, n_perturbations=n).double().sum((1, 2))
    with torch.no_grad():
        difference = (tiny.model(tiny.inputs) - tiny.model(GREY[None])).gather(1, tiny.targets[:, None])[:, 0]
    torch.testing.assert_close(found, difference.double(), rtol=1e-4, atol=1e-5)


def test_a_linear_model_needs_few(tiny):
    weights = torch.randn(3, 12, 10, generator=torch.Generator().manual_seed(0))
    inputs, labels = tiny.inputs[:1], cut(tiny.inputs[:1], 10)[0]
    found = explain(KEY, Linear(weights), inputs, torch.tensor([0]), segments=10, n_perturbations=40)
    shares = (weights * (inputs[0] - 0.5)).sum(0)
    values = [float(shares[labels == j].sum()) for j in range(int(labels.max()) + 1)]
    torch.testing.assert_close(found[0].double(), reference.spread(values, labels), rtol=1e-4, atol=1e-6)


class TestCoalitions:
    def draw(self, players, count):
        return coalitions(players, count, torch.Generator().manual_seed(0))[0]

    def test_sizes_have_the_share_of_their_weight(self):
        sizes = Counter(self.draw(20, 20_000).sum(1).tolist())
        mass = {s: 1 / (s * (20 - s)) for s in range(1, 20)}
        for s, weight in mass.items():
            assert sizes[s] / 20_000 == pytest.approx(weight / sum(mass.values()), abs=0.01)

    def test_each_is_followed_by_its_complement(self):
        rows = self.draw(12, 40)
        assert torch.equal(rows[0::2], ~rows[1::2])

    def test_the_first_of_many_are_those_of_few(self):
        assert torch.equal(self.draw(12, 41), self.draw(12, 200)[:41])


@pytest.mark.usefixtures("as_users_run")
def test_refusals(tiny):
    with pytest.raises(CardgenError, match=r"^kernel_shap: n_perturbations is 0; expected at least 1; choose more$"):
        explain(KEY, *tiny.call, n_perturbations=0)
    with pytest.raises(CardgenError, match=r"^no substrate is called 'segment_mean'"):
        explain(KEY, *tiny.call, background="segment_mean")
