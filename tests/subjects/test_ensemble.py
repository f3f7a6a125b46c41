"""Many models side by side: each one the model that it would be alone, on its own images, in its own order."""

import copy
import time
from itertools import chain

import pytest
import torch
from torch import nn

from cardgen.errors import CardgenError
from cardgen.subjects import ensemble
from cardgen.subjects.ensemble import Stacked, fit_ensemble
from cardgen.subjects.fitting import Course, OutOfTime, TrainingData, accuracy, fit
from cardgen.subjects.resume import forget

COURSE = Course(epochs=2, batch_size=8, learning_rate=0.004)
SEEDS = [3, 3, 5]


class Net(nn.Sequential):
    def __init__(self):
        conv = nn.Conv2d(2, 6, 3, bias=False)
        super().__init__(conv, nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 3))


def images(n=30, seed=0):
    """Images whose brightness tells their label."""
    labels = torch.arange(n) % 3
    noise = torch.randint(0, 60, (n, 2, 6, 6), generator=torch.Generator().manual_seed(seed))
    return (noise + 60 * labels[:, None, None, None]).to(torch.uint8), labels


def normalised(batch):
    return batch.float() / 128 - 1


def data(**options):
    return TrainingData(lambda k: images(seed=k), normalised, "bright", **options)


def change(member, rows, batch):
    """A pixel of each image's own is grey, and so are as many rows from the top as the member's number says."""
    changed = batch.clone()
    changed[torch.arange(len(batch)), :, rows % 6, (rows + member) % 6] = 100
    changed[:, :, :member] = 100
    return changed


def own(member, first=None, **options):
    """What member sees, for `fit` alone."""

    def changed(labelled, start):
        return change(member, start + torch.arange(len(labelled[1])), labelled[0]), labelled[1]

    held_out = first and changed(first, 30)
    return TrainingData(lambda k: changed(images(seed=k), 0), normalised, "own", held_out, **options)


def weights(model):
    return [value.clone() for value in model.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def close(first, second, tolerance=1e-4):
    return all(torch.allclose(a, b, atol=tolerance, rtol=0) for a, b in zip(first, second, strict=True))


def trained(together, course=COURSE, seeds=SEEDS, model=None, data=data, **options):
    return fit_ensemble(model or Net(), data(), course, seeds, change, together=together, **options)


@pytest.mark.parametrize("fresh", [True, False])
def test_every_member_is_the_model_that_it_would_be_alone(fresh):
    course, start = Course(epochs=2, batch_size=8, learning_rate=0.004, fresh=fresh), Net()
    before = weights(start)
    alone = [fit(copy.deepcopy(start), own(member), course, seed) for member, seed in enumerate(SEEDS)]
    together, in_turn = (trained(way, course, model=start) for way in (True, False))
    assert same(weights(start), before)
    for member, fitted in enumerate(alone):
        assert close(weights(together[member].model), weights(fitted.model))
        assert same(weights(in_turn[member].model), weights(fitted.model))
        assert together[member].training_accuracy == fitted.training_accuracy == in_turn[member].training_accuracy
        assert together[member].epochs == 2
        assert not together[member].model.training
    # every member differs from every other by more than the tolerance: by its images, or by its seed
    vectors = [nn.utils.parameters_to_vector(fitted.model.parameters()) for fitted in alone]
    assert min((vectors[a] - vectors[b]).abs().max() for a, b in [(0, 1), (0, 2), (1, 2)]) > 3e-3
    statistics = torch.stack([fitted.model[1].running_mean for fitted in together])
    assert statistics[:2].diff(dim=0).abs().max() > 3e-3
    assert together[0].model[1].num_batches_tracked == 8


def test_members_of_one_seed_see_the_same_images_in_the_same_order():
    seen = {0: [], 1: [], 2: []}

    def noting(member, rows, batch):
        seen[member].append(rows.tolist())
        assert torch.equal(batch, images()[0][rows])
        return batch

    constant = TrainingData(lambda k: images(), normalised, "bright")
    found = fit_ensemble(Net(), constant, Course(epochs=1, batch_size=8), SEEDS, noting, together=True)
    assert seen[0] == seen[1]
    assert seen[0][1:5] != seen[2][1:5]
    assert sorted(chain.from_iterable(seen[2][1:5])) == list(range(30))  # the first is to find out what fits
    assert close(weights(found[0].model), weights(found[1].model), 1e-6)
    assert not close(weights(found[0].model), weights(found[2].model), 1e-2)


def test_dropout_is_each_members_own():
    def twins(model, state):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        course = Course(epochs=2, batch_size=8)
        found = fit_ensemble(model, data(), course, [1, 1], lambda member, rows, batch: batch, together=True)
        assert torch.equal(torch.get_rng_state(), before)
        return [weights(fitted.model) for fitted in found]

    dropping = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(72, 3))
    first, second = twins(dropping, 0)
    assert not close(first, second)
    assert all(same(a, b) for a, b in zip([first, second], twins(dropping, 1), strict=True))
    assert close(*twins(nn.Sequential(nn.Flatten(), nn.Linear(72, 3)), 0))


@pytest.mark.parametrize("together", [True, False])
def test_interrupted_training_ends_in_the_same_weights(tmp_path, together, monkeypatch):
    file, told = tmp_path / "c.pt", []
    expected = trained(together)
    clock = iter(range(100))
    monkeypatch.setattr("cardgen.subjects.loop.time.monotonic", lambda: next(clock))
    with pytest.raises(OutOfTime) as caught:
        trained(together, checkpoint=file, deadline=6.0 if together else 14.0)
    monkeypatch.undo()
    assert str(caught.value) == (
        f"{'' if together else 'model 2 of 3: '}training was stopped after 1 of 2 epochs, as its time was over; expected all of them; "
        "run again to go on from there, or raise --train-budget"
    )
    found = trained(together, checkpoint=file, deadline=time.monotonic() + 600, tell=told.append)
    assert told[0] == ("goes on after 1 of 2 epochs" if together else "model 1 of 3: goes on after 2 of 2 epochs")
    assert all(same(weights(a.model), weights(b.model)) for a, b in zip(found, expected, strict=True))
    (tmp_path / "c.pth").write_text("another's")
    forget(file)
    assert [file.name for file in tmp_path.iterdir()] == ["c.pth"]


def test_each_member_stops_early_by_itself():
    held_out = images(18, seed=9)
    course = Course(epochs=12, batch_size=8, learning_rate=0.02, patience=2)
    alone = [fit(Net(), own(member, held_out), course, seed) for member, seed in enumerate(SEEDS)]
    for way in (True, False):
        found = trained(way, course, data=lambda: data(held_out=held_out))
        assert [fitted.epochs for fitted in found] == [fitted.epochs for fitted in alone]
        assert [f.held_out_accuracy for f in found] == [f.held_out_accuracy for f in alone]
        assert all(close(weights(a.model), weights(b.model), 0.02) for a, b in zip(found, alone, strict=True))
    assert len({fitted.epochs for fitted in alone}) > 1


def test_enough_ends_each_member_with_the_weights_that_it_then_has():
    course = Course(epochs=12, batch_size=8, learning_rate=0.02, enough=0.8)
    shown = [(change(member, torch.arange(30), images()[0]), images()[1]) for member in range(3)]
    constant = TrainingData(lambda k: images(), normalised, "bright")
    found = fit_ensemble(Net(), constant, course, SEEDS, change, together=True)
    for member, fitted in enumerate(found):
        alone = fit(Net(), TrainingData(lambda k, m=member: shown[m], normalised, ""), course, SEEDS[member])
        assert fitted.epochs == alone.epochs < 12
        assert close(weights(fitted.model), weights(alone.model), 2e-3)
        assert fitted.training_accuracy == accuracy(fitted.model, constant, shown[member]) >= 0.8
    assert len({fitted.epochs for fitted in found}) > 1


@pytest.mark.parametrize("together", [True, False])
def test_rows_of_held_out_images_go_on_after_those_of_the_epoch(together):
    held_out, seen = images(18, seed=9), []

    def noting(member, rows, batch):
        assert torch.equal(batch, torch.cat([images()[0], held_out[0]])[rows])
        seen.extend((member, row) for row in rows.tolist())
        return batch

    whole = TrainingData(lambda k: images(), normalised, "bright", held_out)
    fit_ensemble(Net(), whole, Course(epochs=1, batch_size=8), SEEDS, noting, together=together)
    assert set(seen) == {(member, row) for member in range(3) for row in range(48)}


class Branching(Net):
    def forward(self, inputs):
        return super().forward(inputs if inputs.mean() > 0 else inputs * 1.0)


def test_what_torch_cannot_take_together_is_trained_in_turn():
    told = []
    found = trained(True, model=Branching(), tell=told.append)
    expected = trained(False, model=Branching())
    assert told[0].startswith("the models cannot be trained together (RuntimeError: ")
    assert told[0].endswith("); they are trained one after another")
    assert told[1].startswith("model 1 of 3: epoch 1 of 2: loss ")
    assert all(same(weights(a.model), weights(b.model)) for a, b in zip(found, expected, strict=True))


def test_halves_where_memory_runs_out(monkeypatch):
    told, backward = [], Stacked.backward

    def scarce(learners, labelled, rows):
        if len(rows) > 2:
            raise torch.OutOfMemoryError
        return backward(learners, labelled, rows)

    expected = trained(True, seeds=[3, 3, 5, 6, 7])
    monkeypatch.setattr(Stacked, "backward", scarce)
    found = trained(True, seeds=[3, 3, 5, 6, 7], tell=told.append)
    assert [text for text in told if "memory" in text] == [
        "memory ran out: 5 models are trained in two halves",
        "memory ran out: 3 models are trained in two halves",
    ]
    assert all(close(weights(a.model), weights(b.model)) for a, b in zip(found, expected, strict=True))


def test_the_rule_is_one_after_another_on_the_cpu(monkeypatch):
    monkeypatch.setattr(ensemble, "_together", None)
    assert len(trained(None)) == 3


def test_finding_out_what_fits_leaves_nothing_behind():
    learners = Stacked([Net() for _ in range(3)], range(3), data(), change)
    learners.train(True)
    before = [learners.state(member) for member in range(3)]
    learners.prepare(images(), 8)
    for member, state in enumerate(before):
        assert all(torch.equal(value, state[name]) for name, value in learners.state(member).items())


@pytest.mark.parametrize("together", [True, False])
def test_what_is_wrong_is_said(together):
    with pytest.raises(CardgenError) as caught:
        trained(together, Course(epochs=1, patience=1))
    assert str(caught.value) == (
        "a patience of 1 epochs, and no held-out images; expected some to tell by when to stop; hold some out"
    )
    with pytest.raises(CardgenError) as caught:
        trained(together, model=nn.Sequential(nn.Flatten(), nn.Linear(72, 2)))
    assert str(caught.value) == (
        "targets reach from 0 to 2; expected classes 0 to 1, as the model gives 2 logits; mend the targets"
    )
