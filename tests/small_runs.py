"""Runs small enough for tests: a tiny subject, registries cut down to a few plug-ins, and metrics made on the spot."""

import json
from contextlib import contextmanager
from dataclasses import replace

import small_models
import torch

from cardgen.api import make_subject
from cardgen.config import RunConfig
from cardgen.evaluating import describe
from cardgen.forward import counted
from cardgen.methods import METHODS
from cardgen.metrics import METRICS, Metric
from cardgen.plan import make_plan
from cardgen.records import MetricEntry, Source
from cardgen.runner import Runner, Silent
from cardgen.scores import Scores
from cardgen.store import Store
from cardgen.subjects.loading import cuts

SLUG = "tiny-images"
SHIPPED = {id(registry): dict(registry) for registry in (METHODS, METRICS)}


class Flat(torch.nn.Module):
    """A model without convolutions."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(3 * 12 * 10, 4)

    def forward(self, x):
        return self.head(x.flatten(1))


def convolutional():
    """A random network with convolutional features, the same in every process."""
    return small_models.lively(small_models.seeded(0, small_models.Pooled))


def flat_model():
    """A random network without."""
    return small_models.seeded(0, Flat)


def loaded(model=None, n=24, *, masks=True, labels=None, batch=16, seed=0, cut=None):
    """A subject of n random images of 12 × 10 pixels, as `cardgen run` would load it."""
    images = small_models.small_subject(model or convolutional(), 12, 10, n)
    subject = make_subject(*images.call, images.masks if masks else None, None, seed, batch, None)
    return describe(replace(subject, cuts=cuts(cut)), labels, SLUG)


def store(out):
    """Where a run into `out` leaves its records."""
    return Store(out / "evaluations", SLUG)


def run(of, out, progress=None, **settings):
    """One run of a loaded subject; the outcome. `settings` are those of cardgen.yaml."""
    config = RunConfig(**{"methods": ("vanilla_gradients",), **settings})
    plan = make_plan(config, of)
    return Runner(of, plan, store(out), config.thresholds, config.force, progress or Silent()).run()


def only(monkeypatch, methods, metrics):
    """Cut the registries down to these methods and metrics: keys of real ones, or made ones."""
    for registry, wanted in ((METHODS, methods), (METRICS, metrics)):
        items = SHIPPED[id(registry)]
        kept = [items[item] if isinstance(item, str) else item for item in wanted]
        monkeypatch.setattr(registry, "_items", {item.entry.key: item for item in kept})


def made_metric(key, measure=None, *, rule="descriptive", version=1, size="maps", needs=(), direction="higher"):
    """A metric made on the spot; by default the mean of the map."""
    entry = MetricEntry(
        key=key,
        title=key.title(),
        attribute="minimality",
        question="How large is the map?",
        quantity="mean of the map",
        direction=direction,
        source=Source(paper="Nobody 2026", url="https://example.org"),
        rule=rule,
        needs=needs,
        version=version,
    )
    return Metric(entry, measure or mean_of_map, size, lambda n, explainer, parameters: n * explainer.passes)


def mean_of_map(study):
    """The mean of each map."""
    values = study.maps().double().mean((1, 2)).numpy()
    return scores_of(study, values)


def scores_of(study, values):
    """Scores that are valid everywhere."""
    return Scores(values, study.flat() | True, study.flat())


def broken(study):
    """A metric that raises, with words that a terminal's markup would swallow or stumble over."""
    raise ValueError("maps [n, h, w] do not fit [/bold]")


@contextmanager
def forwards(model):
    """A list that collects the samples of every forward pass."""
    seen = []
    with counted(model, seen.append):
        yield seen


def records(out):
    """All records below `out` by place, without provenance: what must be bit-identical."""
    found = {}
    for path in sorted((out / "evaluations").rglob("*.json")):
        fields = json.loads(path.read_text())
        fields.pop("provenance", None)
        found[path.relative_to(out).as_posix()] = json.dumps(fields)
    return found


def files(folder):
    """Every file below a folder with its bytes and the time it was written."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.rglob("*")) if path.is_file()}
