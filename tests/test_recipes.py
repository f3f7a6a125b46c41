"""Recipes that put another network, other inputs or another class in place; and the subject given back as it was."""

import copy
from dataclasses import replace

import pytest
import torch
from small_models import Tiny, every_batch_and_order, lively, seeded, tiny_subject, untouched

from cardgen import explain
from cardgen.draws import content_ids
from cardgen.methods import METHODS, Explainer
from cardgen.recipes import Inputs, Network, Targets
from cardgen.study import Study, Subject


@pytest.fixture
def study():
    small = tiny_subject()
    subject = Subject(*small.call, content_ids(small.inputs))
    return Study(subject, 7, METHODS["vanilla_gradients"])


def test_another_network_explains(study):
    other = lively(seeded(5, Tiny), 5)
    subject = study.subject
    with subject.open():
        found = study.maps(Network("other", lambda model, example: other))
    assert torch.equal(found, explain("vanilla_gradients", other, subject.inputs, subject.targets))


def test_a_network_is_built_once_from_the_model_and_one_sample(study):
    seen = []

    def build(model, example):
        seen.append((model, example.shape))
        return copy.deepcopy(model)

    with study.subject.open():
        study.maps(Network("copy", build))
        replace(study, method=METHODS["grad_cam"]).maps(Network("copy", build))
        study.subject.probabilities(7, Network("copy", build))
    assert seen == [(study.subject.model, (1, 3, 12, 10))]


@pytest.mark.parametrize("how", ["copy", "wrapper"])
def test_its_forward_passes_are_counted_once(study, how):
    class Wrapper(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.call = inner.__call__

        def forward(self, x):
            return self.call(x)

    build = {"copy": lambda model, example: copy.deepcopy(model), "wrapper": lambda model, example: Wrapper(model)}[how]
    with study.subject.open():
        _, cost = study.subject.memo.run(lambda: study.maps(Network(how, build)))
    assert cost == 14


def test_other_inputs_are_explained_and_forwarded(study):
    recipe = Inputs("flipped", lambda subject, part: subject.inputs[part].flip(3))
    subject = study.subject
    flipped = subject.inputs.flip(3)
    with subject.open():
        found, probabilities = study.maps(recipe), subject.probabilities(7, recipe)
    assert torch.equal(found, explain("vanilla_gradients", subject.model, flipped, subject.targets))
    subject.model.eval()
    with torch.no_grad():
        torch.testing.assert_close(probabilities, subject.model(flipped).softmax(1))


def test_another_class_is_explained(study):
    subject = study.subject
    other = (subject.targets + 1) % 4
    with subject.open():
        found = study.maps(Targets("next", lambda of, part: (of.targets[part] + 1) % 4))
    assert torch.equal(found, explain("vanilla_gradients", subject.model, subject.inputs, other))


def test_the_name_alone_is_the_memos_key(study):
    first, second = (Inputs("same", lambda subject, part, s=s: s * subject.inputs[part]) for s in (1, 2))
    assert first == second
    assert hash(first) == hash(second)
    with study.subject.open():
        assert torch.equal(study.maps(first), study.maps(second))


def test_everything_is_given_back(study):
    subject = study.subject
    subject.model.train()
    with untouched(subject.model, subject.inputs, subject.targets), subject.open():
        for recipe in (
            Network("copy", lambda model, example: copy.deepcopy(model)),
            Inputs("zero", lambda of, part: of.inputs[part] * 0),
            Targets("first", lambda of, part: of.targets[part] * 0),
        ):
            study.maps(recipe)


def test_a_score_is_the_samples_own():
    small = tiny_subject()

    def score(rows, batch):
        some = small.take(rows)
        subject = Subject(*some.call, content_ids(some.inputs), batch=batch)
        with subject.open():
            maps = Study(subject, len(rows), METHODS["rise"], {"n_masks": 8}).maps(
                Inputs("half", lambda of, part: of.inputs[part] / 2)
            )
        return maps.flatten(1).double().numpy()

    every_batch_and_order(score, tolerance=1e-5)


def test_variations_change_one_hyperparameter_at_a_time():
    method = replace(METHODS["integrated_gradients"], ranges={"steps": (10, 50, 200), "baseline": ("black", "grey")})
    chosen = Explainer(method, {"steps": 50, "baseline": "black"})
    assert [dict(other.parameters) for other in chosen.variations()] == [
        {"steps": 10, "baseline": "black"},
        {"steps": 200, "baseline": "black"},
        {"steps": 50, "baseline": "grey"},
    ]
    assert [other.passes for other in chosen.variations()] == [20, 400, 100]
