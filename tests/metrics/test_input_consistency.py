"""Input consistency on texts of embeddings: against its slow reference, by hand, and on maps that know nothing of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference import maps as reference_maps
from reference import siblings as reference
from small_methods import made_method, study_of
from small_models import Small, every_batch_and_order, seeded, untouched
from small_runs import loaded, only
from torch import nn

from cardgen import measure
from cardgen.config import RunConfig
from cardgen.errors import CardgenError
from cardgen.metrics import METRICS
from cardgen.plan import make_plan
from cardgen.thresholds import DEFAULTS
from cardgen.verdicts import RULES

KEY = "input_consistency"
WORDS, CHANNELS, LENGTH = 12, 6, 8


class Reader(nn.Module):
    """Reads texts as embeddings [n, channels, 1, words]: what each word speaks for, later ones louder."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Conv2d(CHANNELS, 10, 1)
        self.head = nn.Linear(10, 3)
        self.register_buffer("loudness", torch.linspace(1, 2, LENGTH))

    def forward(self, x):
        return 4 * self.head(((self.hidden(x) * self.loudness).tanh()).sum((2, 3)))


def dictionary():
    """An embedding for each word, and for its synonym, which lies close by."""
    draws = torch.Generator().manual_seed(1)
    vectors = torch.randn(WORDS, CHANNELS, generator=draws)
    return vectors, vectors + 0.1 * torch.randn(WORDS, CHANNELS, generator=draws)


def texts(n=7):
    """Texts of numbered words; in the other version every second word is its synonym."""
    words = torch.randint(WORDS, (n, LENGTH), generator=torch.Generator().manual_seed(2)).tolist()
    vectors, near = dictionary()
    plain = torch.stack([reference.tokens(vectors, text) for text in words])
    other = plain.clone()
    for i, text in enumerate(words):
        other[i, :, 0, ::2] = torch.stack([near[word] for word in text[::2]], dim=1)
    return plain, other


def reader(n=7):
    """A small subject of texts, and the same texts in other words."""
    model = seeded(0, Reader).eval()
    plain, other = texts(n)
    with torch.no_grad():
        targets = model(plain).argmax(1)
    return Small(model, plain, targets, torch.zeros(n, 1, LENGTH, dtype=torch.bool), plain.sum(1)), other


@pytest.fixture
def text():
    return reader()


def found(small, synonyms, method="input_x_gradient", **options):
    return measure(KEY, *small.call, method=method, synonyms=synonyms, **options)


def test_agrees_with_the_reference(text):
    small, other = text
    scores = found(small, other)
    one, its = (
        [reference.signed(small.model, x, int(t)) for x, t in zip(inputs, small.targets, strict=True)]
        for inputs in (small.inputs, other)
    )
    expected = [reference_maps.spearman(a, b) for a, b in zip(one, its, strict=True)]
    np.testing.assert_allclose(scores.values, expected, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(scores.parts["similarity"], scores.values[None])
    baseline = [reference.to_others(one, i, reference_maps.spearman) for i in range(7)]
    np.testing.assert_allclose(scores.parts["baseline"], [baseline], rtol=0, atol=1e-4)
    assert scores.reported["baseline"] == "maps of different texts"
    assert np.ptp(scores.values) > 0
    for wrong in (
        [reference_maps.spearman(a, b) for a, b in zip(one, its[1:] + its[:1], strict=True)],
        [reference.magnitudes(a, b) for a, b in zip(one, its, strict=True)],
    ):
        assert np.abs(scores.values - wrong).max() > 0.01


def test_by_hand():
    # ranks 1 2 3 4 5 6 7 8, and in other words two neighbours changed places: 1 − 6 · 2 / (8 · 63)
    small, _ = reader(2)
    maps = torch.arange(8.0).repeat(2, 1)
    swapped = maps[:, [1, 0, 2, 3, 4, 5, 6, 7]]
    other = small.inputs + 1e-4
    method = made_method(
        lambda model, inputs, *_: torch.where((inputs == small.inputs[: len(inputs)]).all(), maps, swapped)[
            :, None, None
        ]
    )
    study = study_of(small, method)
    study = replace(study, subject=replace(study.subject, synonyms=other))
    scores = METRICS[KEY].measure(study, {})
    assert scores.values == pytest.approx([1 - 12 / 504] * 2)
    assert scores.valid.all()


def test_the_same_words_say_the_same(text):
    small, _ = text
    assert found(small, small.inputs).values == pytest.approx(np.ones(7))


def test_a_text_that_reads_otherwise_does_not_count(text):
    small, other = text
    other = other.clone()
    other[3], small.targets[3] = -5 * small.inputs[3], small.targets[3]
    with torch.no_grad():
        moved = (small.model(other).argmax(1) != small.targets).tolist()
    assert moved[3]
    scores = found(small, other)
    assert scores.valid.tolist() == [not m for m in moved]
    assert scores.reported["moved"] == sum(moved)


def verdict(scores):
    return RULES["vs_baseline"](scores, {}, METRICS[KEY].entry, DEFAULTS, 0).verdict


def test_a_method_that_reads_passes():
    small, other = reader(40)
    scores = found(small, other)
    assert scores.values[scores.valid].mean() > 0.8
    assert verdict(scores) == "pass"


def test_noise_keeps_its_maps_so_that_nothing_could_beat_it():
    """Why the rule is not the one that compares with noise."""
    small, other = reader(40)
    for method in ("noise", "noise_1", "noise_4"):
        scores = found(small, other, method)
        assert scores.values == pytest.approx(np.ones(40))
        assert verdict(scores) == "pass"
    assert METRICS[KEY].entry.requires == ("model_weight_randomization",)


@pytest.mark.parametrize("method", ["constant", "fresh_noise"])
def test_what_reads_nothing_in_it_does_not_pass(method):
    small, other = reader(40)
    assert verdict(found(small, other, method)) != "pass"


def test_images_have_no_words_to_swap(monkeypatch):
    only(monkeypatch, ["vanilla_gradients"], [KEY, "model_weight_randomization"])
    skips = {
        job.metric.entry.key: job.skip for job in make_plan(RunConfig(methods=("vanilla_gradients",)), loaded()).jobs
    }
    assert skips == {
        KEY: "the data is images, which have no words to swap for synonyms",
        "model_weight_randomization": "",
    }
    of = loaded()
    of = replace(of, subject=replace(of.subject, synonyms=of.subject.inputs))
    jobs = make_plan(RunConfig(methods=("vanilla_gradients",)), of).jobs
    assert {job.skip for job in jobs} == {""}


@pytest.mark.usefixtures("as_users_run")
def test_messages(text):
    small, other = text
    with pytest.raises(CardgenError) as caught:
        found(small, None)
    assert str(caught.value) == (
        "input_consistency needs the same samples in other words; the data has none; give synonyms=, of the inputs' shape"
    )
    for wrong in (other[:6], other[..., :4], other * float("nan")):
        with pytest.raises(
            CardgenError, match=r"^synonyms have shape .*; expected finite numbers of shape \(7, 6, 1, 8\)"
        ):
            found(small, wrong)


def test_any_batch_and_order(text):
    small, other = text
    every_batch_and_order(lambda rows, batch: found(small.take(rows), other[rows], batch=batch).values)


def test_nothing_is_touched(text):
    small, other = text
    small.model.train()
    with untouched(small.model, small.inputs, small.targets, other):
        found(small, other)
