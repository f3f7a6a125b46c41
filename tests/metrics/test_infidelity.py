"""Infidelity against its slow reference, by hand, and under wrong versions of itself; and the perturbations that it draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference import perturbed as reference
from small_methods import made_method, study_of
from small_models import Linear, Small, every_batch_and_order, small_subject, untouched
from small_runs import forwards

from cardgen import explain, measure
from cardgen.errors import CardgenError
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.perturbations import gaussian, removed, squares
from cardgen.scores import Scores
from cardgen.space import Space

DRAWS = 12
FEW = {"perturbations": DRAWS, "noise_draws": 2}
MEMBERS = ("noise", "noise_1", "noise_4", "noise_7", "noise_14")


def subject_of(small):
    return study_of(small, made_method(lambda model, inputs, *_: inputs)).subject


def kinds(small, i, draws=DRAWS, substrate="black"):
    """The perturbations I of a sample: squares, then noise."""
    subject = subject_of(small)
    places = squares(subject, len(subject), draws, 10 / 28)
    shown = removed(subject, places, substrate)(i, 0, draws), gaussian(subject, 0.2)(i, 0, draws)
    return [list(small.inputs[i].double() - one.double()) for one in shown]


def expected(small, phi, **options):
    return [
        reference.infidelity(small.model, small.inputs[i], int(small.targets[i]), phi[i], kinds(small, i, **options))
        for i in range(len(phi))
    ]


def linear():
    """A linear model of 12 × 10 pixels and its weights, and random images that are nowhere black or white."""
    weights = torch.randn(3, 12, 10, generator=torch.Generator().manual_seed(4))
    small = small_subject(Linear(weights), 12, 10, classes=1)
    return small._replace(inputs=0.2 + 0.6 * small.inputs), weights


def of(small, attributions, **parameters):
    """Scores of a method that has one answer for each sample, whatever it is asked."""
    rows = {x.numpy().tobytes(): a for x, a in zip(small.inputs, attributions, strict=True)}
    method = made_method(lambda model, inputs, *_: torch.stack([rows[x.numpy().tobytes()] for x in inputs]))
    metric = METRICS["infidelity"]
    return metric.measure(study_of(small, method), metric.parameters(FEW | parameters))


@pytest.mark.parametrize("method", ["vanilla_gradients", "input_magnitude"])
@pytest.mark.parametrize("substrate", ["black", "white"])
def test_agrees_with_the_reference(tiny, method, substrate):
    phi = explain(method, *tiny.call, reduce=False)
    found = measure("infidelity", *tiny.call, method=method, substrate=substrate, **FEW)
    assert found.values == pytest.approx(expected(tiny, phi, substrate=substrate), rel=1e-3, abs=1e-5)
    assert found.valid.all()


def test_what_is_reported_agrees_with_the_reference(tiny):
    phi = explain("vanilla_gradients", *tiny.call, reduce=False)
    found = measure("infidelity", *tiny.call, method="vanilla_gradients", **FEW).reported
    for k, kind in enumerate(("square", "gaussian")):
        rows = []
        for i in range(7):
            perturbations = kinds(tiny, i)[k]
            drops = [reference.drop(tiny.model, tiny.inputs[i], int(tiny.targets[i]), one) for one in perturbations]
            predictions = [reference.predicted(one, phi[i]) for one in perturbations]
            rows.append([f(predictions, drops) for f in (reference.unexplained, reference.fitted, reference.plain)])
        means = np.mean(rows, axis=0)
        assert [found[kind], found[f"fitted_{kind}"], found[f"plain_{kind}"]] == pytest.approx(means, rel=1e-3)


def test_contributions_count_a_unit_of_input(tiny):
    # integrated gradients are (x − x̄) times the mean gradient, and it is the latter that predicts
    inputs = tiny.inputs.clone()
    inputs[:, :, 3, 4] = 0.25
    small, space = tiny._replace(inputs=inputs), Space(mean=(0.25,))
    options = {"method": "integrated_gradients", "method_params": {"baseline": "mean", "steps": 5}, "space": space}
    contributions = explain("integrated_gradients", *small.call, reduce=False, baseline="mean", steps=5, space=space)
    away = inputs.double() - 0.25
    phi = torch.where(away == 0, 0.0, contributions.double() / away)
    found = measure("infidelity", *small.call, **options, **FEW)
    assert found.values == pytest.approx(expected(small, phi), rel=1e-3, abs=1e-5)
    assert np.abs(found.values - expected(small, contributions)).max() > 0.01


def test_the_gradient_of_a_linear_model_predicts_everything():
    small, weights = linear()
    found = measure("infidelity", *small.call, method="vanilla_gradients", **FEW)
    assert found.values == pytest.approx(np.zeros(7), abs=1e-9)
    assert all(found.reported[name] == pytest.approx(0, abs=1e-8) for name in ("plain_square", "fitted_gaussian"))
    # the scale is free, the sign is not: −w is no better than to predict nothing
    twice, against = of(small, (2 * weights).expand(7, -1, -1, -1)), of(small, -weights.expand(7, -1, -1, -1))
    assert twice.values == pytest.approx(np.zeros(7), abs=1e-9)
    assert twice.reported["plain_square"] > 0.01
    assert against.values == pytest.approx(np.ones(7))
    assert against.reported["fitted_square"] == pytest.approx(0, abs=1e-8), "without a sign −A is as good as A"


def test_by_hand():
    # One pixel of value 1 and w = 1: every square is the whole image, I = 1, and the score drops by 1. Whatever A > 0 predicts that;
    # A = 0.5 as it is predicts 0.5, off by 0.25 when squared. A ≤ 0 predicts nothing: 1.
    small = Small(Linear([1.0]), torch.full((1, 1, 1, 1), 1.0), torch.tensor([0]), None, None)
    for a, left, plain in ((0.5, 0, 0.25), (1.0, 0, 0), (3.0, 0, 4), (-1.0, 1, 4), (0.0, 1, 1)):
        found = of(small, torch.full((1, 1, 1, 1), a))
        assert found.reported["square"] == pytest.approx(left)
        assert found.reported["plain_square"] == pytest.approx(plain)
        assert found.values == pytest.approx([left])


def test_one_channel_stands_for_all(tiny):
    one = tiny.maps[:, None]
    single, repeated = of(tiny, one), of(tiny, one.expand(-1, 3, -1, -1))
    assert single.values == pytest.approx(repeated.values)
    for key in single.parts:
        assert single.parts[key] == pytest.approx(repeated.parts[key])


def test_value_matched_noise_agrees_with_the_reference(tiny):
    phi = explain("vanilla_gradients", *tiny.call, reduce=False)
    maps = explain("vanilla_gradients", *tiny.call)
    found = measure("infidelity", *tiny.call, method="vanilla_gradients", **FEW)
    assert set(found.parts) == {f"matched/{key}" for key in MEMBERS}
    for key in ("noise", "noise_14"):  # on coarser grids noise has ties at the border
        for draw in range(2):
            noise = explain(key, *tiny.call, draw=draw)
            moved = torch.stack([reference.matched(phi[i], maps[i], noise[i]) for i in range(7)])
            assert found.parts[f"matched/{key}"][draw] == pytest.approx(expected(tiny, moved), rel=1e-3, abs=1e-5)


def test_the_same_values_in_another_order_predict_hardly_anything():
    small, weights = linear()
    found = of(small, weights.expand(7, -1, -1, -1), perturbations=60)
    assert found.values.max() < 1e-6
    for key in MEMBERS:
        assert found.parts[f"matched/{key}"].shape == (2, 7)
        assert found.parts[f"matched/{key}"].mean() > 0.7


def test_parts_survive_storage(tiny):
    found = of(tiny, tiny.maps[:, None])
    again = Scores.loads(found.dumps())
    for key in found.parts:
        np.testing.assert_array_equal(found.parts[key], again.parts[key])


def fitted_on_all(predictions, drops):
    b = max(reference.best(predictions, drops), 0)
    return sum((b * p - y) ** 2 for p, y in zip(predictions, drops, strict=True)) / sum(y * y for y in drops)


def not_scaled(predictions, drops):
    return reference.plain(predictions, drops) * len(drops) / sum(y * y for y in drops)


MUTATIONS = {
    "fitted and scored on the same draws": ("unexplained", fitted_on_all),
    "not scaled": ("unexplained", not_scaled),
    "either sign": ("unexplained", lambda p, y: reference.fitted(p, y) * len(y) / sum(v * v for v in y)),
    "the halves exchanged": (
        "unexplained",
        lambda p, y, right=reference.unexplained: right(p[1:] + p[:1], y[1:] + y[:1]),
    ),
    "the drop's sign": ("unexplained", lambda p, y, right=reference.unexplained: right([-v for v in p], y)),
    "one channel": ("predicted", lambda i, phi, right=reference.predicted: right(i[:1], phi[:1])),
    "of magnitudes": ("predicted", lambda i, phi, right=reference.predicted: right(i, phi.abs())),
    "another class": ("drop", lambda m, x, t, i, right=reference.drop: right(m, x, (t + 1) % 4, i)),
    "added, not taken away": ("drop", lambda m, x, t, i, right=reference.drop: right(m, x, t, -i)),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    phi = explain("vanilla_gradients", *tiny.call, reduce=False)
    found = measure("infidelity", *tiny.call, method="vanilla_gradients", **FEW).values
    monkeypatch.setattr(reference, *MUTATIONS[name])
    assert np.abs(found - expected(tiny, phi)).max() > 0.01


class TestPerturbations:
    def test_squares_are_drawn_evenly_from_all(self):
        small = small_subject(Linear(torch.ones(3, 6, 7)), 6, 7, classes=1)
        found = squares(subject_of(small), 7, 400, 0.5).flatten(0, 1)
        rows, columns, sides = found.T
        possible = {(r, c, s) for s in (1, 2, 3) for r in range(6 - s + 1) for c in range(7 - s + 1)}
        assert {tuple(row) for row in found.tolist()} == possible
        for side, share in ((1, 42 / 92), (2, 30 / 92), (3, 20 / 92)):
            assert (sides == side).float().mean() == pytest.approx(share, abs=0.03)
            assert rows[sides == side].float().mean() == pytest.approx((6 - side) / 2, abs=0.2)
            assert columns[sides == side].float().mean() == pytest.approx((7 - side) / 2, abs=0.2)

    def test_more_draws_go_on_from_fewer(self, tiny):
        subject = subject_of(tiny)
        assert torch.equal(squares(subject, 7, 5, 0.3), squares(subject, 7, 9, 0.3)[:, :5])
        noise = gaussian(subject, 0.2)
        assert torch.equal(torch.cat([noise(3, 0, 2), noise(3, 2, 5)]), noise(3, 0, 5))

    def test_samples_and_draws_differ(self, tiny):
        subject = subject_of(tiny)
        assert len({str(row.tolist()) for row in squares(subject, 7, 8, 0.3)}) == 7
        noise = torch.stack([gaussian(subject, 0.01)(i, 0, 4) - tiny.inputs[i] for i in range(7)]).flatten(0, 1)
        assert len({row[0, 5, 5].item() for row in noise}) == 28

    def test_a_square_is_the_substrate_and_nothing_else_moves(self, tiny):
        subject = subject_of(tiny)
        places = squares(subject, 7, 6, 0.4)
        for k, image in enumerate(removed(subject, places, "white")(2, 0, 6)):
            row, column, side = places[2, k].tolist()
            inside = torch.zeros(12, 10, dtype=torch.bool)
            inside[row : row + side, column : column + side] = True
            assert (image[:, inside] == 1).all()
            assert torch.equal(image[:, ~inside], tiny.inputs[2][:, ~inside])

    def test_noise_has_its_deviation_and_stays_within_the_space(self, tiny):
        subject = replace(subject_of(tiny), inputs=torch.full_like(tiny.inputs, 0.5))
        found = gaussian(subject, 0.1)(0, 0, 50) - 0.5
        assert found.std() == pytest.approx(0.1, rel=0.02)
        assert found.mean().abs() < 0.002
        shown = gaussian(subject, 2.0)(0, 0, 50)
        assert (shown.min(), shown.max()) == (0, 1)


def test_forward_passes_are_shared_by_all_methods(tiny):
    study = study_of(tiny, METHODS["vanilla_gradients"])
    other = replace(study, method=METHODS["input_magnitude"])
    metric = METRICS["infidelity"]
    with forwards(tiny.model) as seen:
        first = metric.measure(study, metric.parameters(FEW))
        paid = sum(seen)
        second = metric.measure(other, metric.parameters(FEW))
    assert paid == sum(seen) == 7 * (2 + 1 + 2 * DRAWS)  # a gradient counts twice
    assert (first.passes, second.passes) == (paid, paid - 14)


def test_a_score_that_does_not_answer_has_no_infidelity(tiny):
    class Deaf(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.level = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, x):
            lit = (x.flatten(1)[:, :1] > 0.9).float() * x.flatten(1).sum(1, keepdim=True)
            return torch.cat([lit + self.level, -lit], dim=1)

    inputs = 0.3 * tiny.inputs
    found = of(tiny._replace(model=Deaf().eval(), inputs=inputs, targets=0 * tiny.targets), tiny.maps[:, None])
    assert not found.valid.any()
    assert found.values.tolist() == [0] * 7
    assert set(found.reported.values()) == {None}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"perturbations": 3}, "3 perturbations; expected at least 4; raise the parameter perturbations"),
        ({"noise_draws": 0}, "0 draws of noise; expected at least 1; raise the parameter noise_draws"),
    ],
)
def test_too_few_draws_are_refused(tiny, parameters, said):
    with pytest.raises(CardgenError) as caught:
        measure("infidelity", *tiny.call, method="noise", **parameters)
    assert str(caught.value) == f"infidelity with {said}"


def test_own_maps_do_not_do(tiny):
    with pytest.raises(CardgenError, match="it got maps= only; pass method= instead"):
        measure("infidelity", *tiny.call, maps=tiny.maps)


def test_blocks_of_noise_join(tiny, monkeypatch):
    from cardgen.metrics.input_sensitivity import infidelity

    whole = measure("infidelity", *tiny.call, method="vanilla_gradients", **FEW).values
    for block in (1, 5, 100):
        monkeypatch.setattr(infidelity, "BLOCK", block)
        assert measure("infidelity", *tiny.call, method="vanilla_gradients", **FEW).values == pytest.approx(whole)


def test_any_batch_and_order(tiny):
    def score(rows, batch):
        options = {"method": "vanilla_gradients", "perturbations": 16, "noise_draws": 1}
        found = measure("infidelity", *tiny.take(rows).call, batch=batch, **options)
        return np.log(found.values) + 10 * np.log(found.parts["matched/noise_4"][0])

    every_batch_and_order(score, tolerance=1e-3)


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        measure("infidelity", *tiny.call, method="vanilla_gradients", **FEW)
