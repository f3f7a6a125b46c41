"""From a configuration and a subject to jobs: what is to be measured, what is skipped and why, and what it costs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from cardgen.budgets import BUDGETS, CORE, Again, Budget, sized
from cardgen.config import RunConfig
from cardgen.digests import SHORT, digest
from cardgen.errors import CardgenError
from cardgen.forward import prepared
from cardgen.keys import data_part, key_parts
from cardgen.methods import CHANNELS, METHODS, Explainer, Method, real_methods, require_fit
from cardgen.metrics import METRICS, Metric
from cardgen.recipes import ORIGINAL, Original, Sibling
from cardgen.records import Value
from cardgen.registry import unknown
from cardgen.study import Subject
from cardgen.subjects.loading import Loaded

JUDGED = (
    "vs_noise",
    "vs_matched_noise",
    "contrast_matched_noise",
    "randomisation",
    "axiom",
    "unchanged",
    "vs_baseline",
)
"""Rules that controls are put through as well, unless that takes training."""
COMPARED = {"vs_noise": ("noise", "prior"), "vs_noise_over_seeds": ("noise",), "unchanged": ("prior",)}
"""Rules that compare with controls' scores, and with which kinds; all others take what the metric measured."""


@dataclass(frozen=True, eq=False)
class Job:
    """One metric of one method on the first n samples; `skip` says why it is not measured; `channels` are the layer's feature maps.

    `siblings` are the other trained models that it takes.
    """

    method: Method
    method_parameters: Mapping[str, Value]
    metric: Metric
    metric_parameters: Mapping[str, Value]
    n: int
    parts: Mapping[str, Value]
    skip: str = ""
    channels: int = CHANNELS
    siblings: tuple[Sibling, ...] = ()

    @property
    def explainer(self) -> Explainer:
        """The method with its hyperparameters, on the layer that it takes."""
        return Explainer(self.method, self.method_parameters, self.channels)

    @property
    def passes(self) -> int:
        """Samples to be forwarded, estimated."""
        return self.metric.passes(self.n, self.explainer, self.metric_parameters)


@dataclass(frozen=True, eq=False)
class Plan:
    """Jobs that end in records, controls first; and for each metric that compares with controls the scores of those that it needs."""

    jobs: Sequence[Job]
    families: Mapping[str, Sequence[Job]]
    budget: str


def make_plan(config: RunConfig, loaded: Loaded) -> Plan:
    """All jobs of a run.

    Raises:
        CardgenError: unknown names, or more samples asked for than there are.
    """
    if config.n and config.n > len(loaded.subject):
        raise CardgenError(
            f"n is {config.n}; expected at most {len(loaded.subject)}, the samples of {loaded.record.title}; choose fewer"
        )
    budget = BUDGETS[config.budget]
    methods, metrics = chosen_methods(config.methods), chosen_metrics(config.metrics)
    make = Maker(config, loaded, budget)
    families = {key: _family(make, METRICS[key], budget) for key in metrics if METRICS[key].entry.rule in COMPARED}
    jobs = list(_control_jobs(make, metrics, budget)) + [
        make.job(key, METRICS[metric]) for key in methods for metric in metrics
    ]
    return Plan(jobs, families, config.budget)


def _family(make: "Maker", metric: Metric, budget: Budget) -> list[Job]:
    """The controls that a metric's rule compares with: all draws of noise, and the priors whose needs the subject meets."""
    controls = [key for key in METHODS if METHODS[key].entry.control in COMPARED[metric.entry.rule]]
    return [
        make.job(key, metric, given)
        for key in sorted(controls, key=lambda key: METHODS[key].entry.control == "prior")
        if set(METHODS[key].needs) <= set(metric.entry.needs)
        for given in _given(METHODS[key], _draws(metric, budget))
    ]


def _given(method: Method, draws: int) -> list[dict[str, Value]]:
    return [{"draw": draw} for draw in range(draws)] if method.entry.control == "noise" else [{}]


def _draws(metric: Metric, budget: Budget) -> int:
    """Draws of each noise control that a metric is compared with; one where each takes models trained anew, which vary by themselves."""
    if "noise" not in COMPARED.get(metric.entry.rule, ()):
        return 0
    return 1 if metric.size == "retrained" else budget.draws


def _control_jobs(make: "Maker", metrics: Sequence[str], budget: Budget) -> Iterator[Job]:
    """Every control but the held-out ones through every judged metric; of the noise family a draw that is no member."""
    for key in METHODS:
        control = METHODS[key].entry.control
        if control in ("", "held_out") or ("masks" in METHODS[key].needs and make.loaded.subject.masks is None):
            continue
        given: dict[str, Value] = {"draw": budget.draws} if control == "noise" else {}
        for metric in metrics:
            if METRICS[metric].entry.rule in JUDGED:
                yield make.job(key, METRICS[metric], given)


class Maker:
    """Makes the jobs of one run."""

    def __init__(self, config: RunConfig, loaded: Loaded, budget: Budget) -> None:
        self.config, self.loaded, self.budget = config, loaded, budget
        self._unfit: dict[str, str] = {}

    def job(self, method_key: str, metric: Metric, given: Mapping[str, Value] = {}) -> Job:
        method = METHODS[method_key]
        again = _again(method, metric, self.budget)
        method_parameters = method.parameters({**sized(method.defaults, self.budget.method), **given})
        if again and Explainer(method, method_parameters).passes > again.passes:
            method_parameters |= sized(method.defaults, again.method)
        metric_parameters = metric.parameters(sized(metric.defaults, self.budget.metric))
        n = self.config.n or (again.samples if again else self.budget.samples.get(metric.size, 0))
        n = min(n, len(self.loaded.subject))
        parts = key_parts(
            self.loaded.weights,
            self.loaded.samples[:n],
            self.config.target,
            method,
            method_parameters,
            metric,
            metric_parameters,
            seed=self.config.seed,
            dtype=self.loaded.dtype,
            draws=_draws(metric, self.budget),
        )
        if self.config.layer and method.entry.access == "features":
            parts["layer"] = self.config.layer
        if method.code:
            parts["code"] = method.code
        siblings = (*metric.siblings(metric_parameters), *method.siblings)
        skip = self._skip(method, metric, metric_parameters) or self.loaded.family.reason(siblings)
        skip = skip or self._stranger(method, siblings)
        if siblings and not skip:
            parts["siblings"] = self.loaded.family.part(siblings)
        if "training" in metric.entry.needs and self.loaded.subject.retraining:
            parts["training"] = self._training(n)
        if "masks" in method.needs:
            parts["masks"] = data_part(self.loaded.samples)
        if metric.entry.rule == "ratings" and self.loaded.subject.ratings:
            parts["ratings"] = self.loaded.subject.ratings.digest
        channels = self.channels if method.entry.access == "features" and not skip else CHANNELS
        skip = skip or _dear(Explainer(method, method_parameters, channels), again)
        return Job(method, method_parameters, metric, metric_parameters, n, parts, skip, channels, siblings)

    @cached_property
    def channels(self) -> int:
        """Feature maps of the layer that methods of class activation take; if it cannot be read, the jobs themselves say why."""
        try:
            return self.loaded.subject.channels
        except Exception:
            return CHANNELS

    def _training(self, n: int) -> str:
        """The part of a key that says what models are trained on and how, and by which labels they are judged."""
        subject = self.loaded.subject
        identity = subject.retraining.identity if subject.retraining else ""
        return digest([identity, None if subject.labels is None else subject.labels[:n].tolist()])[:SHORT]

    def _skip(self, method: Method, metric: Metric, parameters: Mapping[str, Value]) -> str:
        record = self.loaded.record
        if record.health == "chance" and not self.config.force_unhealthy:
            return f"model at chance level (accuracy {record.accuracy:.2g}, n = {record.n})"
        if "rule" in metric.entry.needs and self.config.target not in ("predicted", "label"):
            return "the pixels known to drive the model are those of each image's own class"
        if "rule" in metric.entry.needs and not self.loaded.subject.ruled:
            return "it is not proven which pixels drive the model on this data"
        if "masks" in metric.entry.needs and self.loaded.subject.masks is None:
            return "the data has no ground-truth masks"
        if "synonyms" in metric.entry.needs and self.loaded.subject.synonyms is None:
            return "the data is images, which have no words to swap for synonyms"
        if "weights" in metric.entry.needs and self.loaded.black_box:
            return "needs the model's weights, and the model is a black box that gives only outputs"
        if metric.size not in self.budget.samples:
            return f"budget: retrains {metric.trains(parameters)} models; choose --budget full"
        if "labels" in metric.entry.needs and self.loaded.subject.labels is None:
            return "needs the samples' labels"
        if "training" in metric.entry.needs and self.loaded.subject.retraining is None:
            return "needs labelled training images; give them by --train-data"
        if method.siblings and metric.other_networks:
            return "the method trains a network for one model, and this explains others as well"
        if "classes" in metric.entry.needs and len(record.classes) == 1:
            return "compares two classes; the model has one"
        return self._once(f"metric {metric.entry.key}", lambda: self._refused(metric)) or self._once(
            f"method {method.entry.key}", lambda: unfit(method, self.loaded)
        )

    def _stranger(self, method: Method, siblings: Sequence[Sibling]) -> str:
        """Why a method cannot explain one of these siblings, if so; maskers, which are nothing to be explained, aside."""
        for sibling in siblings:
            told = f"method {method.entry.key} sibling {sibling.name}"
            if sibling.kind != "masker" and (reason := self._once(told, partial(unfit, method, self.loaded, sibling))):
                return f"the sibling {sibling.name}: {reason}"
        return ""

    def _once(self, key: str, reason: Callable[[], str]) -> str:
        if key not in self._unfit:
            self._unfit[key] = reason()
        return self._unfit[key]

    def _refused(self, metric: Metric) -> str:
        subject = self.loaded.subject
        return _refused(lambda: metric.fits(subject.model, subject.inputs[:1]), subject)


def _again(method: Method, metric: Metric, budget: Budget) -> Again | None:
    """The bounds on a job of a metric that explains again, for methods beyond core; None where there are none."""
    beyond = not method.entry.control and method.entry.key not in CORE
    return budget.again if beyond and metric.size == "again" else None


def _dear(explainer: Explainer, again: Again | None) -> str:
    """Why a job is beyond the budget, if so."""
    passes = explainer.passes
    if again is None or passes <= again.passes:
        return ""
    return (
        f"budget: a map takes {passes:,} forwards, and evaluations that explain again take methods of at most {again.passes} here; "
        "choose a larger --budget"
    )


def unfit(method: Method, loaded: Loaded, recipe: Original | Sibling = ORIGINAL) -> str:
    """Why a method cannot explain the model, or a sibling, if so."""
    subject = loaded.subject

    def check() -> None:
        with subject.changed(recipe) as model:
            require_fit(method, model, subject.inputs[:1])
        if method.entry.access == "features":
            subject.features_of(recipe)

    return _refused(check, subject)


def _refused(check: Callable[[], object], subject: Subject) -> str:
    """The words, up to the first `;`, of what a check of the model raises; what no one foresaw is left to the job, as its error."""
    try:
        with prepared(subject.model):
            check()
    except CardgenError as error:
        return error.what
    except Exception:
        return ""
    return ""


def siblings_of(config: RunConfig) -> list[Sibling]:
    """The other trained models that the methods and metrics of a run take, each once."""
    budget = BUDGETS[config.budget]
    wanted = [s for key in chosen_methods(config.methods) for s in METHODS[key].siblings]
    for metric in (METRICS[key] for key in chosen_metrics(config.metrics)):
        wanted += metric.siblings(metric.parameters(sized(metric.defaults, budget.metric)))
    return list(dict.fromkeys(wanted))


def retrains(config: RunConfig) -> bool:
    """Whether a run takes images to train on, whatever siblings it takes."""
    metrics = [METRICS[key] for key in chosen_metrics(config.metrics)]
    return any("training" in m.entry.needs and m.size in BUDGETS[config.budget].samples for m in metrics)


def chosen_methods(names: Sequence[str]) -> list[str]:
    """Keys of the methods named: keys, `core`, or `all`; controls are always measured and cannot be named."""
    groups = {"core": [key for key in CORE if key in METHODS], "all": real_methods()}
    return _chosen("method", names, groups, real_methods())


def chosen_metrics(names: Sequence[str]) -> list[str]:
    """Keys of the metrics named: keys, or `all`."""
    return _chosen("metric", names, {"all": list(METRICS), "core": list(METRICS)}, list(METRICS))


def _chosen(what: str, names: Sequence[str], groups: Mapping[str, list[str]], known: list[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        if name not in groups and name not in known:
            raise CardgenError(unknown(what, name, [*groups, *known]))
        found += [key for key in groups.get(name, [name]) if key not in found]
    return found
