"""What must hold of every saliency method, controls included: a new one is tested by being registered."""

import numpy as np
import pytest
import torch
from homes import HOMES, at_home, home, masking, refusal
from small_models import (
    Residual,
    Tiny,
    every_batch_and_order,
    lively,
    seeded,
    small_subject,
    tiny_subject,
    untouched,
    vgg,
)

from cardgen import explain
from cardgen.errors import CardgenError
from cardgen.methods import METHODS, Explainer, reduced
from cardgen.subjects.black_box import BlackBox
from cardgen.subjects.networks import SmallCNN

CHEAP = {"steps": 6, "n_masks": 24, "n_samples": 4, "samples": 4, "stride": 0.125}
CHEAP |= {"n_perturbations": 24, "iterations": 3, "cells": 3, "segments": 6}
CHEAP |= {"removals": 8, "updates": 3, "points": 2, "backgrounds": 2}
SUBJECTS = {
    "small-cnn": lambda: small_subject(lively(seeded(0, SmallCNN)), 64, 64, n=3),
    "residual": lambda: small_subject(lively(seeded(0, Residual)), 16, 14),
    "vgg": lambda: small_subject(lively(seeded(0, vgg)), 12, 10),
    "pooled": HOMES["pooled"].subject,
    "transformer": HOMES["transformer"].subject,
    "one-class": lambda: small_subject(lively(seeded(0, lambda: Tiny(classes=1))), 12, 10),
    "black-box": lambda: small_subject(BlackBox(lively(seeded(0, Tiny))), 12, 10),
}
KEYED = ("keyed_noise", "class_noise", "fresh_noise")
"""Controls that change with the class as a good method does, and say nothing of it."""
THROUGH_POOLING = ("deconvolution",)
"""Methods in which the image has a say only where max pooling chooses among its pixels."""
REAL = [key for key in METHODS if not METHODS[key].entry.control]
HALF = 0.25
"""Share of a map's norm by which bfloat16, whose numbers have 8 bits, may change it on the median sample."""


def few(key):
    """Few steps, masks or samples."""
    return {name: value for name, value in CHEAP.items() if name in METHODS[key].defaults}


def run(key, small, **options):
    """Explain with few steps, masks or samples."""
    return explain(key, *small.call, masks=small.masks, masker=masking(key, small), **few(key) | options)


@pytest.fixture
def fitting(key, name):
    """A network, unless the method refuses it and says why."""
    small = SUBJECTS[name]()
    reason = refusal(key, small)
    if reason:
        with pytest.raises(CardgenError):
            run(key, small)
        pytest.skip(reason)
    return small


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("key", METHODS)
class TestOnEveryNetwork:
    def test_shape_type_and_finiteness(self, key, name, fitting):
        small = fitting
        n, c, h, w = small.inputs.shape
        attributions, maps = run(key, small, reduce=False), run(key, small)
        assert attributions.shape in ((n, c, h, w), (n, 1, h, w))
        assert maps.shape == (n, h, w)
        assert attributions.dtype == maps.dtype == torch.float32
        assert attributions.isfinite().all()
        assert not attributions.requires_grad

    def test_nothing_is_touched(self, key, name, fitting):
        small = fitting
        small.model.train()
        with untouched(small.model, small.inputs, small.targets, small.masks):
            run(key, small)

    def test_evaluation_mode_whatever_the_models_mode(self, key, name, fitting):
        small = fitting
        calm = run(key, small)
        small.model.train()
        assert torch.equal(run(key, small), calm)


@pytest.mark.parametrize("key", METHODS)
class TestEach:
    def test_the_map_is_the_declared_reduction(self, key):
        small = at_home(key)
        attributions = run(key, small, reduce=False)
        by_hand = attributions.abs().amax(1) if METHODS[key].entry.reduction == "max_abs" else attributions.sum(1)
        assert torch.equal(run(key, small), by_hand)

    def test_signed_as_declared(self, key):
        smalls = [small for small in (make() for make in SUBJECTS.values()) if not refusal(key, small)]
        least = min(float(run(key, small).min()) for small in smalls)
        assert (least < 0) == METHODS[key].entry.signed

    def test_the_same_map_for_the_same_seed_whatever_batch_and_order(self, key):
        small = at_home(key)
        assert torch.equal(run(key, small), run(key, small))
        if key == "mean_mask":
            pytest.skip("a prior on all of the data: by its definition it moves with a sample's company")

        def score(rows, batch):
            values = run(key, small.take(rows), batch=batch).flatten(1).double().numpy()
            # the flat map and the centre prior are the same for all samples; the helper asks for scores that differ
            return values if key not in ("constant", "centred_gaussian") else values + np.array(rows)[:, None]

        every_batch_and_order(score, tolerance=1e-5)

    def test_another_seed_gives_another_map_only_if_it_is_random(self, key):
        small = at_home(key)
        assert torch.equal(run(key, small, seed=1), run(key, small)) != METHODS[key].entry.random

    def test_torchs_generator_has_no_part(self, key):
        small = at_home(key)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            one = run(key, small)
            torch.manual_seed(2)
            assert torch.equal(one, run(key, small))

    def test_another_target_gives_another_map_unless_it_is_declared_to_know_none(self, key):
        small = at_home(key)
        other = run(key, small._replace(targets=(small.targets + 1) % 4))
        same = [torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(run(key, small), other, strict=True)]
        blind = (METHODS[key].entry.control and key not in KEYED) or not METHODS[key].class_specific
        assert all(same) if blind else not any(same)

    def test_it_works_without_gradients_being_recorded(self, key):
        small = at_home(key)
        with torch.no_grad():
            found = run(key, small)
        assert torch.equal(found, run(key, small))

    def test_frozen_models(self, key):
        small = at_home(key)
        wanted = run(key, small)
        small.model.requires_grad_(False)
        torch.testing.assert_close(run(key, small), wanted)

    def test_one_channel_and_odd_sizes(self, key):
        if home(key) == "transformer":
            pytest.skip("the size is the network's")
        model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 3, 3),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(3, 2),
        )
        inputs = torch.rand(2, 1, 17, 9)
        small = at_home(key)._replace(
            model=model, inputs=inputs, targets=torch.tensor([0, 1]), masks=torch.ones(2, 17, 9, dtype=torch.bool)
        )
        assert run(key, small).shape == (2, 17, 9)

    def test_an_unknown_hyperparameter_is_refused(self, key):
        with pytest.raises(CardgenError, match=f"{key}: no parameter is called 'nosuchthing'"):
            explain(key, *at_home(key).call, nosuchthing=1)

    def test_what_it_says_of_itself(self, key):
        entry = METHODS[key].entry
        assert entry.key == key
        assert entry.title
        assert entry.source.url.startswith("https://")
        assert METHODS[key].function.__doc__


@pytest.mark.parametrize("key", REAL)
class TestReal:
    def test_it_depends_on_the_model(self, key):
        small = at_home(key)
        other = small._replace(model=HOMES[home(key)].another())
        assert not torch.allclose(run(key, small), run(key, other), rtol=1e-2)

    def test_it_depends_on_the_image(self, key):
        small = SUBJECTS["vgg"]() if key in THROUGH_POOLING else at_home(key)
        maps = [m for m in run(key, small) if m.any()]  # a rectified map may be zero on some
        assert len(maps) > 3
        assert all(not torch.allclose(a, b, rtol=1e-2) for i, a in enumerate(maps) for b in maps[i + 1 :])

    def test_passes_are_what_the_model_sees(self, key):
        small = at_home(key)
        options = {"layer": HOMES[home(key)].layer, "masker": masking(key, small), **few(key)}
        seen = []
        # a pass that records gradients counts twice, for the way back
        handle = small.model.register_forward_hook(lambda m, a, o: seen.append(len(o) * (1 + o.requires_grad)))
        explain(key, *small.call, **options)
        handle.remove()
        parameters = METHODS[key].parameters(few(key))
        assert sum(seen) == 7 * Explainer(METHODS[key], parameters, channels=5).passes

    def test_half_precision(self, key):
        small = at_home(key)
        rough = small.inputs.bfloat16()
        wanted = run(key, small._replace(inputs=rough.float()))  # samples' draws go by their values
        rough = small._replace(model=small.model.bfloat16(), inputs=rough)
        found = run(key, rough)
        assert found.dtype == torch.float32
        norms = wanted.flatten(1).norm(dim=1)
        apart = ((found - wanted).flatten(1).norm(dim=1) / norms.clamp_min(1e-12))[norms > 0]
        assert apart.median() < HALF


def test_models_that_only_wrap_their_logits():
    class Output:
        def __init__(self, logits):
            self.logits = logits

    class Wrapped(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return Output(self.inner(x))

    small = tiny_subject()
    for key in REAL:
        wrapped = small._replace(model=Wrapped(small.model))
        if home(key) == "tiny":
            torch.testing.assert_close(run(key, wrapped), run(key, small))


def test_reductions_by_hand():
    attributions = torch.tensor([[[[1.0, -2.0]], [[-3.0, 1.0]]]])
    assert reduced(attributions, "sum").tolist() == [[[-2.0, -1.0]]]
    assert reduced(attributions, "max_abs").tolist() == [[[3.0, 2.0]]]


def refused(match, method="vanilla_gradients", **changes):
    small = tiny_subject()
    arguments = {"model": small.model, "inputs": small.inputs, "targets": small.targets} | changes
    with pytest.raises(CardgenError, match=match):
        explain(method, **arguments)


@pytest.mark.usefixtures("as_users_run")
class TestMessages:
    def test_unknown_method(self):
        refused("^no method is called 'grad_cm'; did you mean grad_cam.*[?]$", "grad_cm")

    def test_misspelt_hyperparameter(self):
        refused("^rise: no parameter is called 'n_mask'; did you mean n_masks[?]$", "rise", n_mask=4)

    def test_shapes(self):
        refused(r"^inputs have shape \(3, 12, 10\)", inputs=torch.rand(3, 12, 10))
        refused(
            r"^inputs have shape \(0, 3, 12, 10\)",
            inputs=torch.rand(0, 3, 12, 10),
            targets=torch.zeros(0, dtype=torch.int64),
        )
        refused(r"^targets have shape \(6,\)", targets=torch.zeros(6, dtype=torch.int64))
        refused(r"^targets have shape \(7,\) and type torch.float32", targets=torch.zeros(7))
        refused(
            r"^masks have shape \(7, 10, 12\); expected \(7, 12, 10\)", masks=torch.ones(7, 10, 12, dtype=torch.bool)
        )

    def test_values(self):
        refused("^inputs hold NaN", inputs=torch.full((7, 3, 12, 10), float("nan")))

    @pytest.mark.parametrize("target", [4, -1])
    def test_a_class_that_the_model_does_not_have(self, target):
        refused(f"^targets reach from {target} to {target}; expected classes 0 to 3", targets=torch.full((7,), target))

    def test_a_model_that_gives_no_logits(self):
        refused(
            r"^the model returned \(7, 3, 12, 10\); expected logits of shape \(7, classes\)", model=torch.nn.Identity()
        )

    def test_a_model_that_gives_infinities(self):
        class Broken(torch.nn.Module):
            def forward(self, x):
                return x.flatten(1)[:, :2] * float("inf")

        refused("returned NaN or infinities", model=Broken(), targets=torch.zeros(7, dtype=torch.int64))
