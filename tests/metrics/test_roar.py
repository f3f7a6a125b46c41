"""ROAR against its slow reference, by hand, with planted truth, under wrong versions of itself, interrupted, and where it cannot be."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from reference import roar as reference
from small_methods import made_method
from small_models import untouched
from small_patches import (
    CLASSES,
    COURSE,
    MEAN,
    PATCH,
    SIDE,
    TRUTH,
    UNTRUTH,
    Colours,
    inputs_of,
    patches,
    retraining,
    roar,
    subject,
)
from small_runs import files, only, run

from cardgen import measure, removal
from cardgen.budgets import BUDGETS
from cardgen.config import RunConfig
from cardgen.draws import seed_of
from cardgen.errors import CardgenError
from cardgen.evaluating import describe
from cardgen.methods import METHODS, Explainer
from cardgen.metrics import METRICS
from cardgen.over_seeds import SEEDS
from cardgen.plan import make_plan, retrains
from cardgen.removal import PERCENTS, first_share
from cardgen.repair import copied
from cardgen.scores import Scores
from cardgen.study import Study
from cardgen.subjects.black_box import BlackBox
from cardgen.subjects.course import Course, OutOfTime, TrainingData
from cardgen.subjects.fitting import fit
from cardgen.subjects.retraining import Retraining

WEIGHTS = torch.tensor([1.0, -1.37, 0.71])[:, None, None]
RAMP = 1.7e-4 * torch.arange(SIDE * SIDE).view(SIDE, SIDE)
"""Tells pixels of one colour apart, so that there are no ties."""
EPOCHS = 5


def weighted(model, inputs, targets, context):
    """First, last or in between for the colours of the three classes."""
    return inputs * WEIGHTS + RAMP / 3


WEIGHTED = made_method(weighted)


MUTATIONS = {
    "least salient first": ("descending", lambda saliency, right=reference.descending: right(-saliency)),
    "seeds that are not paired": ("seed_of", lambda percent, seed: seed + percent),
    "the mean of the model's space as an image's": ("colour", lambda mean, low, high: round(255 * mean)),
    "samples as they are": ("shown", lambda image, saliency, percent, colours: image),
    "one channel alone": (
        "without",
        lambda image, saliency, percent, colours, right=reference.without: torch.cat(
            [right(image, saliency, percent, colours)[:1], image[1:]]
        ),
    ),
    "half as many pixels": ("removed", lambda percent, pixels, right=reference.removed: right(percent, pixels) // 2),
}


def small():
    return subject(20, training=retraining(48))


@pytest.fixture(scope="module")
def found():
    """Of one method on 20 samples, with 48 training images."""
    torch.set_num_threads(1)
    return roar(small(), WEIGHTED, images=48, epochs=EPOCHS)


def expected():
    of = small()
    picked, samples = of.retraining.picked(48, of.seed), patches(20, 2)

    def maps(images):
        return weighted(None, inputs_of(images), None, None).sum(1)

    def train(images, labels, seed):
        course = replace(COURSE, epochs=EPOCHS)
        return fit(copied(of.model), TrainingData(lambda k: (images, labels), inputs_of, ""), course, seed).model

    low, high = of.space.low, of.space.high
    colours = [reference.colour(*channel) for channel in zip(of.space.mean, low, high, strict=True)]
    return reference.roar(
        (picked.images, picked.labels, maps(picked.images)),
        (samples.images, samples.labels, maps(samples.images)),
        colours,
        [seed_of(of.seed, "retrained", number) for number in range(2)],
        train,
        inputs_of,
    )


def test_agrees_with_the_reference(found):
    slow = expected()
    np.testing.assert_allclose(found.parts[SEEDS], slow, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.values, np.mean(slow, 0), rtol=0, atol=1e-12)
    assert 0.2 < found.values.mean() < 0.9
    assert np.ptp(found.parts[SEEDS][0] - found.parts[SEEDS][1]) > 0


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(name, found, monkeypatch):
    monkeypatch.setattr(reference, *MUTATIONS[name])
    assert np.abs(found.parts[SEEDS] - expected()).max() > 0.1


class TestRemoval:
    def test_first_share_by_hand(self):
        # of 10 pixels 1, 3, 5, 7, 9 go: the first with the first share, the next two with the second, …, and the last never
        order = torch.tensor([[3, 1, 0, 2, 4, 5, 9, 8, 7, 6]])
        assert first_share(order).tolist() == [[1, 1, 2, 0, 2, 3, 5, 4, 4, 3]]

    def test_numbers_are_rounded_half_up(self):
        # of 5 pixels 0.5, 1.5, 2.5, 3.5, 4.5: 1, 2, 3, 4, 5
        assert first_share(torch.arange(5)[None]).tolist() == [[0, 1, 2, 3, 4]]

    @pytest.mark.parametrize("pixels", [1, 2, 64, 120, 224 * 224])
    def test_as_many_pixels_go_as_the_reference_removes(self, pixels):
        gone = first_share(torch.arange(pixels)[None])
        for place, percent in enumerate(PERCENTS):
            assert int((gone <= place).sum()) == reference.removed(percent, pixels)

    def test_the_change_of_images_by_hand(self):
        images = torch.tensor([[[[1, 2], [3, 4]]], [[[5, 6], [7, 8]]]], dtype=torch.uint8)
        gone = torch.tensor([[9, 9, 9, 9], [0, 1, 2, 5], [2, 2, 0, 0]], dtype=torch.uint8)
        change = removal.removal([0, 2], gone, torch.tensor([[[100]]], dtype=torch.uint8))
        rows = torch.tensor([1, 2])
        assert change(0, rows, images).tolist() == [[[[100, 2], [3, 4]]], [[[5, 6], [100, 100]]]]
        assert change(1, rows, images).tolist() == [[[[100, 100], [100, 4]]], [[[100, 100], [100, 100]]]]
        assert change(1, rows.flip(0), images).tolist() == [[[[100, 100], [100, 100]]], [[[100, 100], [100, 8]]]]

    def test_training_images_and_samples_turn_into_one_colour(self):
        bench = self.bench()
        expected = [round(255 * mean) for mean in MEAN]
        assert bench.colour.flatten().tolist() == expected
        torch.testing.assert_close(inputs_of(bench.colour[None]), torch.zeros(1, 3, 1, 1), rtol=0, atol=0.01)

    @pytest.mark.parametrize("at_once", [1, 7, 100])
    def test_training_images_are_explained_alike_however_many_at_once(self, at_once, monkeypatch):
        whole = self.bench().gone(Study(subject(), 24, TRUTH))
        monkeypatch.setattr(removal, "AT_ONCE", at_once)
        assert torch.equal(self.bench().gone(Study(subject(), 24, TRUTH)), whole)

    def test_of_training_images_the_patch_goes_first(self):
        bench = self.bench()
        gone = bench.gone(Study(subject(), 24, TRUTH)).view(-1, SIDE, SIDE)
        patch = (bench.picked.images == 255).any(1)
        assert (gone[patch] == 0).all()
        assert patch.sum() == 64 * PATCH**2

    def test_ties_go_in_the_image_s_own_random_order(self):
        flat = made_method(lambda model, inputs, targets, context: inputs[:, :1] * 0)
        gone = self.bench().gone(Study(subject(), 24, flat))
        assert len({tuple(row) for row in gone.tolist()}) == 64
        for place in range(len(PERCENTS)):
            share = (gone <= place).float().mean(0)  # of images that lose a pixel, pixel by pixel
            assert float(share.std()) < 0.1

    def bench(self):
        of = subject()
        return removal.Bench(of, of.retraining, of.labels, of.retraining.picked(64, 0), 1, (1, 2))


@pytest.fixture(scope="module")
def whole():
    """Scores of 24 samples with planted truth."""
    torch.set_num_threads(1)
    return roar(subject())


class TestTrainingImages:
    def test_the_first_of_one_random_order(self):
        training = retraining(96)
        few, many, everything = (training.picked(n, 0) for n in (10, 50, 1000))
        assert few.ids == many.ids[:10] == everything.ids[:10]
        assert torch.equal(few.images, many.images[:10])
        assert len(everything) == len(set(everything.ids)) == 96
        assert training.picked(10, 1).ids != few.ids
        images, labels, _ = patches(96, 1)
        row = int(few.ids[3].removeprefix("train-"))
        assert torch.equal(few.images[3], images[row])
        assert few.labels[3] == labels[row]

    @pytest.mark.parametrize("target", ["predicted", "given", "label", "2"])
    def test_are_explained_for_the_class_that_samples_are(self, target):
        seen = []

        def explain(model, inputs, targets, context):
            seen.append((context.ids, targets.clone()))
            return inputs

        of = subject(training=retraining(target=target))
        roar(of, made_method(explain), epochs=1)
        ids, classes = zip(*[found for found in seen if found[0][0].startswith("train-")], strict=True)
        picked = of.retraining.picked(64, 0)
        assert sum(ids, ()) == picked.ids
        predicted = of.model(inputs_of(picked.images)).argmax(1)
        fixed = {"label": picked.labels, "2": torch.full((64,), 2)}
        assert torch.equal(torch.cat(classes), fixed.get(target, predicted))
        assert len(predicted.unique()) > 1

    def test_later_epochs_see_the_images_of_the_first(self, whole):
        images, labels, _ = patches(96, 1)
        asked = []

        def epoch(k):
            asked.append(k)
            return images, labels

        other = replace(retraining(), data=TrainingData(epoch, inputs_of, "patches 96 1"))
        assert roar(subject(training=other)).values.tolist() == whole.values.tolist()
        assert set(asked) == {0}


class TestPairs:
    def test_networks_of_one_seed_begin_alike_whatever_is_removed(self, monkeypatch):
        seen = []
        models = Retraining.models

        def noted(self, blank, picked, epochs, seeds, change, what):
            seen.append(tuple(seeds))
            return models(self, blank, picked, epochs, seeds, change, what)

        monkeypatch.setattr(Retraining, "models", noted)
        of = subject()
        for method in (TRUTH, UNTRUTH):
            roar(of, method, seeds=3)
        whole, one, other = seen
        assert one == other == whole * len(PERCENTS)
        assert len(set(whole)) == 3

    def test_another_run_seed_gives_other_networks_and_images(self):
        one, other = roar(subject(), epochs=2), roar(subject(seed=1), epochs=2)
        assert one.values.tolist() != other.values.tolist()

    def test_no_seed_s_scores_depend_on_how_many_there_are(self, whole):
        three = roar(subject(), seeds=3)
        assert np.array_equal(whole.parts[SEEDS], three.parts[SEEDS][:2])


class TestScores:
    def test_what_is_reported(self, whole):
        found = whole
        by_share = [found.reported[f"accuracy at {percent} %"] for percent in PERCENTS]
        assert found.reported["accuracy without removal"] > 0.8
        assert np.mean(by_share) == pytest.approx(found.values.mean())
        assert found.curve.x == [0, 0.1, 0.3, 0.5, 0.7, 0.9]
        assert found.curve.y == pytest.approx([found.reported["accuracy without removal"], *by_share], rel=5e-3)

    def test_truth_takes_the_label_away_and_its_opposite_leaves_it(self, whole):
        assert whole.values.mean() < 0.5
        assert roar(subject(), UNTRUTH).values.mean() > 0.8

    @pytest.mark.parametrize(
        ("rows", "batch"),
        [(list(range(24))[::-1], 7), (list(range(3, 20)), 64), ([5, 1, 8, 2, 20, 21, 11, 4, 9, 16], 1)],
    )
    def test_a_score_does_not_depend_on_batch_order_and_company(self, rows, batch, whole):
        assert np.array_equal(roar(subject(rows=rows, batch=batch)).values, whole.values[rows])
        assert np.ptp(whole.values) > 0

    def test_the_same_twice(self, whole):
        assert roar(subject()).dumps() == whole.dumps()

    def test_whole_networks_are_trained_once_a_subject(self, monkeypatch):
        trained = []
        models = Retraining.models
        monkeypatch.setattr(
            Retraining, "models", lambda self, *given: trained.append(given[5][:5]) or models(self, *given)
        )
        of = subject()
        for method in (TRUTH, UNTRUTH):
            roar(of, method)
        assert [what for what in trained if what == "whole"] == ["whole"]
        assert len(trained) == 3

    def test_nothing_is_touched(self):
        of = subject()
        of.model.train()
        picked = of.retraining.data.epoch(0)
        with untouched(of.model, of.inputs, of.targets, of.labels, *picked):
            roar(of, METHODS["vanilla_gradients"], epochs=1)

    def test_hooks_of_the_model_s_own_come_along_and_counters_do_not(self):
        of = subject()
        seen = []
        of.model.register_forward_hook(lambda module, given, scores: seen.append(module is of.model))
        found = roar(of)
        assert {True, False} == set(seen)  # the model, and networks trained anew
        assert found.reported["accuracy without removal"] > 0.6

    @pytest.mark.parametrize("key", ["vanilla_gradients", "noise"])
    def test_the_declared_passes_are_those_measured(self, key):
        metric, parameters = METRICS["roar"], METRICS["roar"].parameters({"images": 64, "epochs": 2, "seeds": 2})
        found = roar(subject(), METHODS[key], epochs=2)
        assert found.passes == metric.passes(24, Explainer(METHODS[key], METHODS[key].defaults), parameters)

    def test_flat_maps_remove_pixels_at_random(self):
        found = roar(subject(), METHODS["constant"])
        assert found.flat.all()
        assert found.valid.all()
        assert found.reported["accuracy at 10 %"] > found.reported["accuracy at 90 %"]

    def test_half_precision(self):
        of = subject()
        of = replace(of, model=copied(of.model).bfloat16(), inputs=of.inputs.bfloat16())
        assert roar(of).reported["accuracy without removal"] > 0.6


class TestChance:
    def hopeless(self, **parameters):
        images, labels, _ = patches(96, 1)
        shuffled = labels[torch.randperm(96, generator=torch.Generator().manual_seed(0))]
        data = TrainingData(lambda k: (images, shuffled), inputs_of, "shuffled")
        return roar(subject(training=Retraining(data, COURSE)), **parameters)

    def test_networks_at_chance_level_tell_nothing(self, monkeypatch):
        monkeypatch.setattr(removal.Bench, "right", lambda bench, study: pytest.fail("trained in vain"))
        found = self.hopeless()
        accuracy = found.reported["accuracy without removal"]
        majority = float(patches(24, 2).labels.bincount().max()) / 24
        assert not found.valid.any()
        assert found.reason == (
            f"Retrained on all pixels the network gets {accuracy:.1%} right, and naming the most frequent class {majority:.1%}: "
            "nothing can be told; give more training images or epochs."
        )

    def test_they_give_scores_that_can_be_stored(self):
        found = Scores.loads(self.hopeless().dumps())
        assert found.parts[SEEDS].shape == (2, 24)


class Interrupted(Exception):
    """Pulled the plug."""


class Plug:
    """Pulls the plug after so many epochs; counts them."""

    def __init__(self, after=10**6):
        self.left, self.epochs = after, 0

    def __call__(self, line):
        if "epoch " in line:
            self.epochs += 1
            if self.epochs == self.left:
                raise Interrupted


class TestInterrupted:
    @pytest.mark.parametrize("after", [1, 9, 30, 47])
    def test_goes_on_to_the_same_scores(self, after, tmp_path, whole):
        with pytest.raises(Interrupted):
            roar(subject(training=retraining(tell=Plug(after), folder=tmp_path)))
        again = Plug()
        assert roar(subject(training=retraining(tell=again, folder=tmp_path))).dumps() == whole.dumps()
        # each epoch is taken once, but for the one that was cut off and the networks that saw all pixels, 8 epochs
        assert again.epochs <= 4 * 2 * (1 + len(PERCENTS)) - after + 1 + 8
        assert not list(tmp_path.iterdir())

    def test_other_maps_images_or_epochs_begin_anew(self, tmp_path):
        with pytest.raises(Interrupted):
            roar(subject(training=retraining(tell=Plug(20), folder=tmp_path)))
        for changes in ({"method": UNTRUTH}, {"images": 50, "epochs": 5}):
            found = roar(subject(training=retraining(folder=tmp_path)), **changes)
            assert found.dumps() == roar(subject(), **changes).dumps()

    def test_out_of_time(self, tmp_path):
        with pytest.raises(OutOfTime, match="run again to go on from there, or raise --train-budget"):
            roar(subject(training=retraining(deadline=0.0, folder=tmp_path)))


class TestOwnFunction:
    FILE = """
import torch
from torch import nn

def fit(inputs, labels, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    optimiser = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(30):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimiser.step()
    return model
"""

    @pytest.fixture
    def own(self, tmp_path):
        file = tmp_path / "train.py"
        file.write_text(self.FILE)
        return f"{file}:fit"

    def test_trains_in_the_recipe_s_place(self, own):
        truth, untruth = (roar(subject(training=retraining(own=own)), method) for method in (TRUTH, UNTRUTH))
        assert truth.reported["accuracy without removal"] > 0.8
        assert truth.values.mean() < 0.5 < 0.7 < untruth.values.mean()

    def test_is_part_of_the_identity(self, own, tmp_path):
        training = retraining(own=own)
        before = training.identity
        (tmp_path / "train.py").write_text(self.FILE.replace("30", "31"))
        assert len({before, retraining(own=own).identity, retraining().identity}) == 3


def test_what_the_weights_depend_on_is_part_of_the_identity():
    same = [retraining(), retraining(tell=print), retraining(deadline=1e9), retraining(target="label")]
    same += [replace(retraining(), course=replace(COURSE, epochs=9, patience=2, enough=0.9, fresh=False))]
    assert len({training.identity for training in same}) == 1
    others = [retraining(97), retraining(seed=3), replace(retraining(), course=Course(1, learning_rate=1e-3))]
    assert len({training.identity for training in [*same, *others]}) == 4


class TestRefused:
    def test_without_labels_or_images_to_train_on(self):
        for field, words in (("labels", "labels of the samples"), ("retraining", "labelled images to train on")):
            with pytest.raises(CardgenError, match=f"roar needs {words}"):
                roar(replace(subject(), **{field: None}))

    def test_maps_alone(self):
        of = subject()
        with pytest.raises(CardgenError, match="it got maps= only; pass method= instead"):
            measure(
                "roar",
                of.model,
                of.inputs,
                of.targets,
                maps=torch.rand(24, SIDE, SIDE),
                true_labels=of.labels,
                retraining=of.retraining,
            )

    def test_methods_that_need_masks(self):
        with pytest.raises(CardgenError, match="planted_truth reads masks, which they do not have"):
            roar(subject(), METHODS["planted_truth"])

    @pytest.mark.parametrize("wrong", [{"seeds": 1}, {"images": 1}, {"epochs": 0}])
    def test_sizes_that_tell_nothing(self, wrong):
        with pytest.raises(CardgenError, match="expected at least 2 seeds"):
            roar(subject(), **wrong)

    @pytest.mark.usefixtures("as_users_run")
    def test_labels_of_another_shape(self):
        of = subject()
        call = (of.model, of.inputs, of.targets)
        with pytest.raises(CardgenError, match=r"labels have shape \(3,\).*; expected 24 class numbers"):
            measure(
                "roar", *call, method="noise", true_labels=torch.zeros(3, dtype=torch.int64), retraining=of.retraining
            )


def test_from_python():
    of = subject()
    found = measure(
        "roar",
        of.model,
        of.inputs,
        of.targets,
        method="noise",
        space=of.space,
        batch=16,
        true_labels=of.labels,
        retraining=of.retraining,
        images=64,
        epochs=4,
        seeds=2,
    )
    assert found.dumps() == roar(of, METHODS["noise"]).dumps()


def loaded(n=24, **fields):
    of = subject(n, **fields)
    return describe(of, of.labels, "patches")


class TestPlan:
    @pytest.fixture(autouse=True)
    def _few(self, monkeypatch):
        truth = replace(TRUTH, entry=TRUTH.entry.model_copy(update={"key": "truth"}))
        untruth = replace(UNTRUTH, entry=UNTRUTH.entry.model_copy(update={"key": "untruth"}))
        controls = ["noise", "noise_4", "edges", "constant", "planted_truth", "mean_mask"]
        metric = METRICS["roar"]
        metric = replace(metric, function=partial(metric.function, images=64, epochs=4, seeds=2))
        only(monkeypatch, [truth, untruth, *controls], [metric])

    def plan(self, of, budget="full", **settings):
        return make_plan(RunConfig(**{"methods": ("all",), "budget": budget, "force_unhealthy": True, **settings}), of)

    def test_runs_at_full_alone(self):
        of = loaded()
        for budget in ("quick", "standard"):
            plan = self.plan(of, budget)
            assert {job.skip for job in plan.jobs} == {"budget: retrains 10 models; choose --budget full"}
            assert not retrains(RunConfig(metrics=("roar",), budget=budget))
        plan = self.plan(of)
        assert {job.skip for job in plan.jobs} == {""}
        assert {job.n for job in plan.jobs} == {24}
        assert retrains(RunConfig(metrics=("roar",), budget="full"))
        assert "retrained" not in {**BUDGETS["quick"].samples, **BUDGETS["standard"].samples}

    def test_controls_are_measured_to_compare_with_and_get_no_records(self):
        plan = self.plan(loaded())
        assert [job.method.entry.key for job in plan.jobs] == ["truth", "untruth"]
        family = [(job.method.entry.key, job.method_parameters.get("draw")) for job in plan.families["roar"]]
        assert family == [("noise", 0), ("noise_4", 0)]
        assert {job.parts["controls"].split()[1] for job in plan.jobs} == {"1"}

    def test_skips_say_what_to_provide(self):
        of = loaded()
        reasons = {
            "needs labelled training images; give them by --train-data": {"retraining": None},
            "needs the samples' labels": {"labels": None},
            "needs the model's weights, and the model is a black box that gives only outputs": {
                "model": BlackBox(of.subject.model, "f")
            },
        }
        for reason, fields in reasons.items():
            changed = replace(of, subject=replace(of.subject, **fields))
            assert {job.skip for job in self.plan(changed).jobs} == {reason}

    def test_the_key_holds_what_is_trained_on_and_no_time(self):
        def key(**fields):
            job = self.plan(loaded(training=retraining(**fields))).jobs[0]
            return job.parts

        assert key() == key(deadline=1e9, tell=print)
        assert key()["training"] != key(n=97)["training"]
        of = loaded()
        relabelled = replace(of, subject=replace(of.subject, labels=(of.subject.labels + 1) % CLASSES))
        assert self.plan(relabelled).jobs[0].parts["training"] != self.plan(of).jobs[0].parts["training"]

    def test_planted_truth_passes_and_its_opposite_fails(self, tmp_path):
        of = loaded(48)
        outcome = run(of, tmp_path, methods=("all",), budget="full", force_unhealthy=True)
        assert not outcome.errors
        found = {record.method: record for record in outcome.written}
        truth, untruth = found["truth"], found["untruth"]
        assert truth.verdict == "pass", truth.reason
        assert untruth.verdict == "fail", untruth.reason
        assert set(truth.controls) == {"noise", "noise_4"}
        assert truth.rule.name == "vs_noise_over_seeds"
        assert len(truth.model_dump_json()) < 4000
        assert outcome.work.alone > outcome.work.forwarded  # networks that saw all pixels, shared
        before = files(tmp_path)
        again = run(of, tmp_path, methods=("all",), budget="quick", force_unhealthy=True)
        assert (len(again.written), again.kept) == (0, 2)
        assert files(tmp_path) == before


def test_the_network_alone_learns_the_task():
    # what the tests above rest on: a network that sees all pixels learns the label, and one that sees no patch cannot
    images, labels, masks = patches(96, 1)
    hidden = images.clone().transpose(0, 1)
    hidden[:, masks] = 128
    test = patches(200, 5)
    for seen, low, high in ((images, 0.9, 1), (hidden.transpose(0, 1), 0, 0.5)):
        model = fit(
            Colours(), TrainingData(lambda k, x=seen: (x, labels), inputs_of, ""), replace(COURSE, epochs=6), 0
        ).model
        shown = test.images if low else torch.where(test.masks[:, None], 128, test.images.int()).to(torch.uint8)
        accuracy = float((model(inputs_of(shown)).argmax(1) == test.labels).float().mean())
        assert low <= accuracy <= high
