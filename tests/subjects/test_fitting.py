"""Training one model: the same weights however it was interrupted, stopped when it should be, and nothing else touched."""

import time
from pathlib import Path

import pytest
import torch
from torch import nn

from cardgen.errors import CardgenError
from cardgen.subjects import fitting
from cardgen.subjects.course import Progress
from cardgen.subjects.fitting import Course, OutOfTime, TrainingData, accuracy, cross_entropy, fit
from cardgen.subjects.initial import initialise
from cardgen.subjects.loop import Training

COURSE = Course(epochs=3, batch_size=8, learning_rate=0.02)


class Net(nn.Sequential):
    """Convolution, batch normalisation, dropout and a class token's worth of parameters that no layer owns."""

    def __init__(self, classes=3):
        super().__init__(
            nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(96, classes)
        )
        self.register_parameter("scale", nn.Parameter(torch.linspace(0.5, 1.5, 3)))

    def forward(self, images):
        return super().forward(images) * self.scale


def images(n=30, seed=0, classes=3):
    """Images whose brightness tells their label."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    noise = torch.randint(0, 60, (n, 2, 6, 6), generator=draws)
    return (noise + 60 * labels[:, None, None, None]).to(torch.uint8), labels


def normalised(batch):
    return batch.float() / 128 - 1


def data(n=30, **options):
    return TrainingData(lambda k: images(n, seed=k), normalised, "bright", **options)


def weights(model):
    return [value.clone() for value in model.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_it_learns_and_says_how_well():
    fitted = fit(Net(), data(held_out=images(seed=9)), Course(epochs=12, batch_size=8, learning_rate=0.02), 0)
    assert fitted.training_accuracy > 0.9
    assert fitted.held_out_accuracy > 0.9
    assert fitted.epochs == 12
    assert not fitted.model.training
    assert fitted.training_accuracy == accuracy(fitted.model, data(), images(seed=11))
    assert all(p.requires_grad and p.grad is None and p.is_contiguous() for p in fitted.model.parameters())


def test_same_seed_same_weights_whatever_the_model_was_before():
    first = weights(fit(Net(), data(), COURSE, 0).model)
    other = Net()
    for layer in other:
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    other[1].running_mean += 5
    assert same(first, weights(fit(other, data(), COURSE, 0).model))
    assert not same(first, weights(fit(Net(), data(), COURSE, 1).model))


def test_global_generator_is_neither_used_nor_moved():
    def trained(seed):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        model = Net()
        torch.set_rng_state(before)
        found = weights(fit(model, data(), COURSE, 0).model)
        assert torch.equal(torch.get_rng_state(), before)
        return found

    assert same(trained(1), trained(2))


def test_dropout_draws_anew_every_epoch():
    seen = []

    def loss(model, inputs, labels):
        seen.append(model[4](torch.ones(1, 50)))
        return cross_entropy(model, inputs, labels)

    fit(Net(), data(8), Course(epochs=3, batch_size=8), 0, loss=loss)
    _, *masks = seen  # one to find out what fits into memory
    assert len({tuple(mask[0].tolist()) for mask in masks}) == 3


class Interrupted(Exception):
    """Something that happens to a training."""


@pytest.mark.parametrize("patience", [None, 3])
@pytest.mark.parametrize("epoch", [1, 2])
def test_interrupted_training_ends_in_the_same_weights(tmp_path, epoch, patience):
    course = Course(epochs=3, batch_size=8, learning_rate=0.02, patience=patience)
    told, held_out = [], images(seed=9)
    expected = fit(Net(), data(held_out=held_out), course, 0)

    def failing(k):
        if k == epoch:
            raise Interrupted
        return images(seed=k)

    with pytest.raises(Interrupted):
        fit(Net(), TrainingData(failing, normalised, "bright", held_out), course, 0, checkpoint=tmp_path / "c.pt")
    found = fit(Net(), data(held_out=held_out), course, 0, checkpoint=tmp_path / "c.pt", tell=told.append)
    assert told[0] == f"goes on after {epoch} of 3 epochs"
    assert len(told) == 4 - epoch
    assert same(weights(found.model), weights(expected.model))
    assert (found.epochs, found.held_out_accuracy) == (expected.epochs, expected.held_out_accuracy)
    again = fit(Net(), data(held_out=held_out), course, 0, checkpoint=tmp_path / "c.pt", tell=told.append)
    assert told[-1] == "goes on after 3 of 3 epochs"
    assert same(weights(again.model), weights(expected.model))


def test_a_checkpoint_is_tensors_numbers_and_words(tmp_path):
    fit(Net(), data(held_out=images(seed=9)), Course(2, patience=1), 0, checkpoint=tmp_path / "deeper" / "c.pt")
    assert torch.load(tmp_path / "deeper" / "c.pt", weights_only=True)["progress"][0]["epochs"] >= 1
    assert [file.name for file in (tmp_path / "deeper").iterdir()] == ["c.pt"]


@pytest.mark.parametrize("changed", ["seed", "course", "data", "model", "weights"])
def test_a_checkpoint_of_another_training_is_ignored(tmp_path, changed):
    tuned = Course(epochs=2, batch_size=8, fresh=False)

    def run(seed=0, course=tuned, digest="bright", classes=3, bias=0.0, **options):
        model = Net() if classes == 3 else nn.Sequential(Net(), nn.Linear(3, classes))
        initialise(model, torch.Generator().manual_seed(5))
        next(iter(model.children())).register_buffer("unused", torch.tensor(bias))
        return weights(fit(model, TrainingData(lambda k: images(), normalised, digest), course, seed, **options).model)

    other = {
        "seed": {"seed": 1},
        "course": {"course": Course(epochs=2, batch_size=8, weight_decay=0.5, fresh=False)},
        "data": {"digest": "dark"},
        "model": {"classes": 4},
        "weights": {"bias": 1.0},
    }[changed]
    run(checkpoint=tmp_path / "c.pt")
    told = []
    assert same(run(**other), run(**other, checkpoint=tmp_path / "c.pt", tell=told.append))
    assert told[0] == "c.pt is of another training; it is begun anew"


@pytest.mark.parametrize("damage", ["cut", "flipped", "words", "empty"])
def test_a_damaged_checkpoint_is_ignored(tmp_path, damage):
    file, told = tmp_path / "c.pt", []
    expected = weights(fit(Net(), data(), COURSE, 0, checkpoint=file).model)
    content = bytearray(file.read_bytes())
    head = bytes(torch.load(file, weights_only=True)["weights"][0]["5.weight"].numpy().tobytes()[:40])
    content[content.index(head)] ^= 1
    damaged = {"cut": content[: len(content) // 2], "flipped": content, "words": b"weights", "empty": b""}[damage]
    file.write_bytes(bytes(damaged))
    assert same(weights(fit(Net(), data(), COURSE, 0, checkpoint=file, tell=told.append).model), expected)
    assert told[0] == "c.pt is damaged; it is begun anew"
    assert len(told) == 4


def test_out_of_time_keeps_what_is_done_and_says_so(tmp_path, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("cardgen.subjects.loop.time.monotonic", lambda: next(clock))
    with pytest.raises(OutOfTime) as caught:
        fit(Net(), data(), COURSE, 0, checkpoint=tmp_path / "c.pt", deadline=9.0)  # four batches an epoch
    assert str(caught.value) == (
        "training was stopped after 2 of 3 epochs, as its time was over; expected all of them; "
        "run again to go on from there, or raise --train-budget"
    )
    assert isinstance(caught.value, CardgenError)
    monkeypatch.undo()
    found = fit(Net(), data(), COURSE, 0, checkpoint=tmp_path / "c.pt", deadline=time.monotonic() + 600)
    assert same(weights(found.model), weights(fit(Net(), data(), COURSE, 0).model))


def test_out_of_time_without_a_checkpoint():
    model = Net()
    with pytest.raises(OutOfTime) as caught:
        fit(model, data(), COURSE, 0, deadline=time.monotonic() - 1)
    assert str(caught.value) == (
        "training was stopped after 0 of 3 epochs, as its time was over; expected all of them; raise --train-budget"
    )
    assert not model.training


def test_early_stopping_returns_the_best_weights(monkeypatch):
    scores, seen = iter([0.5, 0.7, 0.6, 0.7, 0.9]), []

    def scored(learner, labelled, first):
        assert torch.equal(labelled[0], images(seed=9)[0])
        seen.append(weights(learner.model))
        return [next(scores)]

    monkeypatch.setattr(fitting.Alone, "accuracies", scored)
    fitted = fit(Net(), data(held_out=images(seed=9)), Course(epochs=9, batch_size=8, patience=2), 0)
    assert fitted.epochs == 4
    assert same(weights(fitted.model), seen[1])
    assert not same(seen[1], seen[3])
    assert fitted.held_out_accuracy == accuracy(fitted.model, data(), images(seed=9))


def test_random_labels_are_learnt_until_it_is_enough():
    shown = images(24)[0], torch.randint(0, 3, (24,), generator=torch.Generator().manual_seed(3))
    course = Course(epochs=200, batch_size=8, learning_rate=0.01, enough=0.95)
    fitted = fit(Net(), TrainingData(lambda _: shown, normalised, "random"), course, 0)
    assert fitted.training_accuracy >= 0.95
    assert 1 < fitted.epochs < 200
    assert fitted.held_out_accuracy is None


def test_progress_of_one_model():
    course = Course(epochs=9, patience=2, enough=0.9)
    progress = Progress()
    assert [progress.note(course, 0.1, score) for score in (0.4, 0.4, 0.5, 0.3)] == [True, False, True, False]
    assert progress == Progress(epochs=4, best=0.5, since=1, ended=False)
    progress.note(course, 0.1, 0.5)
    assert progress.ended
    learnt = Progress()
    learnt.note(course, 0.9, 0.1)
    assert learnt.ended


def test_fine_tuning_keeps_weights_pruned_and_frozen_layers_learn():
    model = Net()
    initialise(model, torch.Generator().manual_seed(0))
    mask = model[5].weight.abs() > 0.1
    model[5].weight.data *= mask
    model[0].weight.requires_grad_(False)
    before = weights(model)
    zeroed = []

    def prune(changed):
        zeroed.append(bool(changed[5].weight[~mask].abs().sum() > 0))
        changed[5].weight *= mask

    fitted = fit(model, data(), Course(epochs=2, batch_size=8, fresh=False), 0, after_step=prune)
    assert fitted.model is model
    assert len(zeroed) == 2 * 4
    assert any(zeroed)
    assert not model[5].weight[~mask].any()
    assert not torch.equal(model[0].weight, before[1])
    assert not model[0].weight.requires_grad
    assert (model[0].weight - before[1]).abs().max() < 0.1  # tuned, not begun anew


def test_no_epochs_leave_the_weights():
    model = Net()
    before = weights(model)
    assert fit(model, data(), Course(epochs=0, fresh=False), 0).epochs == 0
    assert same(before, weights(model))


def test_own_loss_of_a_model_whose_outputs_are_no_logits():
    masker = nn.Conv2d(2, 1, 1)
    initialise(masker, torch.Generator().manual_seed(0))
    before = masker(normalised(images()[0]))
    fitted = fit(masker, data(), COURSE, 0, loss=lambda model, inputs, labels: (model(inputs) ** 2).mean())
    assert (fitted.training_accuracy, fitted.held_out_accuracy) == (None, None)
    assert masker(normalised(images()[0])).abs().mean() < before.abs().mean()


class Viewed(Net):
    def forward(self, images):
        features = self[2](self[1](self[0](images)))
        return self[5](features.view(len(features), -1))


def test_models_that_cannot_have_channels_last_are_trained_without():
    assert fit(Viewed(), data(), COURSE, 0).training_accuracy > 0.5


def test_batches_are_halved_where_memory_runs_out(monkeypatch):
    sizes, told = [], []

    def loss(model, inputs, labels):
        sizes.append(len(inputs))
        if len(inputs) > 4:
            raise torch.OutOfMemoryError
        return cross_entropy(model, inputs, labels)

    plain = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    found = weights(fit(plain, data(), COURSE, 0, loss=loss, tell=told.append).model)
    assert told[0] == "memory ran out: batches are taken in 2 parts"
    assert sizes[:5] == [8, 4, 4, 4, 4]
    expected = weights(fit(nn.Sequential(nn.Flatten(), nn.Linear(72, 3)), data(), COURSE, 0).model)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))


def test_gradients_of_parts_are_those_of_the_whole_batch():
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    rows = torch.arange(23, 30)[None]

    def gradients(parts):
        learner = fitting.Alone(model, data(), cross_entropy, None, fitting.silent)
        learner.parts = parts
        model.zero_grad()
        return learner.backward(images(), rows), model[1].weight.grad.clone()

    for whole, added in zip(gradients(1), gradients(2), strict=True):  # parts of four and three
        assert torch.allclose(whole, added, atol=1e-6)


def test_finding_out_what_fits_leaves_nothing_behind():
    model = Net()
    before = weights(model)
    learner = fitting.Alone(model, data(), cross_entropy, None, fitting.silent)
    learner.train(True)
    learner.prepare(images(), 8)
    assert same(before, weights(model))
    assert learner.layout == torch.channels_last


def test_too_little_memory():
    def loss(model, inputs, labels):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(CardgenError) as caught:
        fit(Net(), data(), COURSE, 0, loss=loss)
    assert str(caught.value) == (
        "memory ran out while training, with batches of 8 images; expected it to suffice; train on another device"
    )


def test_a_loss_that_is_not_finite():
    with pytest.raises(CardgenError) as caught:
        fit(Net(), data(), COURSE, 0, loss=lambda model, inputs, labels: model(inputs).mean() * torch.nan)
    assert str(caught.value) == (
        "the loss became nan in epoch 1 of 3; expected a finite number; lower the learning rate from 0.02"
    )


def test_early_stopping_needs_held_out_images():
    with pytest.raises(CardgenError) as caught:
        fit(Net(), data(), Course(epochs=3, patience=2), 0)
    assert str(caught.value) == (
        "a patience of 2 epochs, and no held-out images; expected some to tell by when to stop; hold some out"
    )


def test_labels_that_are_no_classes():
    with pytest.raises(CardgenError) as caught:
        fit(Net(), TrainingData(lambda k: images(classes=4), normalised, ""), COURSE, 0)
    assert str(caught.value) == (
        "targets reach from 0 to 3; expected classes 0 to 2, as the model gives 3 logits; mend the targets"
    )


def test_a_model_without_parameters():
    with pytest.raises(CardgenError) as caught:
        fit(nn.Flatten(), data(), COURSE, 0)
    assert str(caught.value) == (
        "the model has no parameters; expected weights that can be trained; choose another model"
    )


def test_batches_are_those_of_the_generator_and_a_last_one_of_one_image_joins():
    learner = fitting.Alone(Net(), data(), cross_entropy, None, fitting.silent)

    def batches(n, size):
        training = Training(learner, Course(1, batch_size=size), [torch.Generator().manual_seed(4)])
        return training.batches(n)

    generator = torch.Generator().manual_seed(4)
    assert torch.equal(torch.cat(batches(20, 8), dim=1)[0], torch.randperm(20, generator=generator))
    sizes = {n: [batch.shape[1] for batch in batches(n, 8)] for n in (1, 16, 17, 18)}
    assert sizes == {1: [1], 16: [8, 8], 17: [8, 9], 18: [8, 8, 2]}
    assert [batch.shape[1] for batch in batches(3, 1)] == [1, 1, 1]


def test_first_weights_reach_every_parameter():
    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.linspace(-1, 1, 12))
            self.attention = nn.MultiheadAttention(12, 2)
            self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 4, 3))
            self.norm = nn.BatchNorm1d(4)

    def drawn(seed, before):
        model = Transformer()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.uniform_(-1, 1, generator=torch.Generator().manual_seed(before))
            model.norm.running_mean += 3
        state = torch.get_rng_state()
        old = {name: value.clone() for name, value in model.named_parameters()}
        initialise(model, torch.Generator().manual_seed(seed))
        assert torch.equal(state, torch.get_rng_state())
        assert not model.norm.running_mean.any()
        assert all(not torch.equal(old[name], value) for name, value in model.named_parameters())
        return dict(model.named_parameters())

    first, again, other = drawn(0, 1), drawn(0, 1), drawn(1, 1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if "norm" not in name and "bias" not in name)


def test_checkpoints_are_whole_or_not_there(tmp_path, monkeypatch):
    def failing(*_):
        raise OSError(28, "No space left on device")

    fit(Net(), data(), Course(1), 0, checkpoint=tmp_path / "c.pt")
    before = (tmp_path / "c.pt").read_bytes()
    monkeypatch.setattr("cardgen.records.os.replace", failing)
    with pytest.raises(CardgenError, match="cannot be written: No space left on device"):
        fit(Net(), data(), COURSE, 0, checkpoint=Path(tmp_path / "c.pt"))
    assert (tmp_path / "c.pt").read_bytes() == before
