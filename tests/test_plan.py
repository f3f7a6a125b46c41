"""From settings and a subject to jobs."""

from dataclasses import replace

import pytest
import torch
from small_models import Pooled, seeded, siblings_of
from small_runs import flat_model, loaded, made_metric, only

from cardgen.budgets import BUDGETS, CORE
from cardgen.config import RunConfig
from cardgen.digests import digest
from cardgen.errors import CardgenError
from cardgen.estimates import forwarded
from cardgen.evaluating import related
from cardgen.keys import scores_key
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.plan import chosen_methods, chosen_metrics, make_plan

MADE = [made_metric("judged", rule="vs_noise"), made_metric("told"), made_metric("masked", needs=("masks",))]


@pytest.fixture
def few(monkeypatch):
    only(monkeypatch, ["vanilla_gradients", "grad_cam", "noise", "noise_4", "edges", "constant", "planted_truth"], MADE)


def jobs(of=None, **settings):
    plan = make_plan(RunConfig(**{"methods": ("all",), **settings}), of or loaded())
    return plan, [(job.method.entry.key, job.metric.entry.key) for job in plan.jobs]


@pytest.mark.usefixtures("few")
def test_every_method_meets_every_metric_after_the_controls_met_the_judged_ones():
    _, found = jobs()
    controls = ["constant", "edges", "noise", "noise_4", "planted_truth"]
    assert found == [(control, "judged") for control in controls] + [
        (method, metric) for method in ("grad_cam", "vanilla_gradients") for metric in ("judged", "masked", "told")
    ]


@pytest.mark.usefixtures("few")
def test_the_family_of_a_judged_metric_is_all_draws_of_noise_and_the_priors():
    plan, _ = jobs()
    assert list(plan.families) == ["judged"]
    family = [(job.method.entry.key, job.method_parameters.get("draw")) for job in plan.families["judged"]]
    assert family == [(noise, draw) for noise in ("noise", "noise_4") for draw in range(3)] + [("edges", None)]


@pytest.mark.usefixtures("few")
def test_noise_is_judged_by_a_draw_that_is_no_member_of_the_family():
    plan, _ = jobs()
    draws = {job.method.entry.key: job.method_parameters.get("draw") for job in plan.jobs}
    assert (draws["noise"], draws["noise_4"]) == (BUDGETS["quick"].draws, BUDGETS["quick"].draws)


@pytest.mark.usefixtures("few")
def test_without_masks_there_is_no_planted_truth_and_what_needs_them_is_skipped():
    plan, found = jobs(loaded(masks=False))
    assert ("planted_truth", "judged") not in found
    skips = {(job.method.entry.key, job.metric.entry.key): job.skip for job in plan.jobs if job.skip}
    reason = "the data has no ground-truth masks"
    assert skips == {("grad_cam", "masked"): reason, ("vanilla_gradients", "masked"): reason}


@pytest.mark.usefixtures("few")
def test_without_convolutions_class_activation_alone_is_skipped():
    plan, _ = jobs(loaded(flat_model()))
    assert {job.method.entry.key for job in plan.jobs if job.skip} == {"grad_cam"}


def test_passes_follow_the_number_of_feature_maps(monkeypatch):
    only(monkeypatch, ["ablation_cam", "noise"], MADE[1:2])
    for layer, channels in (("features.relu1", 4), ("features.relu2", 5)):
        found = loaded()
        (job,) = jobs(replace(found, subject=replace(found.subject, layer=layer)))[0].jobs
        assert (job.explainer.passes, job.passes) == (channels + 1, job.n * (channels + 1))
        assert forwarded([job]) == job.passes


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("force", "skipped"), [(False, True), (True, False)])
def test_at_chance_level_all_is_skipped_unless_forced(force, skipped):
    plan, _ = jobs(loaded(labels=torch.arange(24) % 4), force_unhealthy=force)
    assert plan.jobs
    assert {bool(job.skip) for job in plan.jobs} == {skipped}


def test_a_budget_sets_samples_and_monte_carlo_sizes_and_nothing_else(monkeypatch):
    only(monkeypatch, ["rise", "integrated_gradients"], ["deletion", "model_weight_randomization"])
    of = loaded(n=120)
    found = {
        budget: {(job.method.entry.key, job.metric.entry.key): job for job in jobs(of, budget=budget)[0].jobs}
        for budget in ("quick", "standard")
    }
    quick, standard = ({place: job.n for place, job in found[budget].items()} for budget in ("quick", "standard"))
    assert (quick["rise", "deletion"], quick["rise", "model_weight_randomization"]) == (64, 40)
    assert (standard["rise", "deletion"], standard["rise", "model_weight_randomization"]) == (120, 100)
    changed = {
        name
        for place, job in found["quick"].items()
        for mine, its in (
            (job.method_parameters, found["standard"][place].method_parameters),
            (job.metric_parameters, found["standard"][place].metric_parameters),
        )
        for name in mine
        if mine[name] != its[name]
    }
    assert changed == {"n_masks", "reinitialisations"}


def beyond_core(passes):
    """Vanilla gradients under another name, at a price."""
    entry = METHODS["vanilla_gradients"].entry.model_copy(update={"key": "beyond"})
    return replace(METHODS["vanilla_gradients"], entry=entry, passes=lambda parameters: passes)


@pytest.mark.parametrize(
    ("passes", "budget", "n", "skip"),
    [
        (300, "quick", 24, ""),
        (301, "quick", 24, "budget: a map takes 301 forwards"),
        (301, "standard", 100, ""),
    ],
)
def test_what_explains_again_takes_less_of_methods_beyond_core_at_quick(monkeypatch, passes, budget, n, skip):
    only(monkeypatch, ["vanilla_gradients", beyond_core(passes)], ["deletion", "model_weight_randomization"])
    of = loaded(n=120)
    found = {(job.method.entry.key, job.metric.entry.key): job for job in jobs(of, budget=budget)[0].jobs}
    again = found["beyond", "model_weight_randomization"]
    assert again.n == n
    assert again.skip[: len(skip) or None] == skip
    assert found["beyond", "deletion"].skip == ""
    assert found["beyond", "deletion"].n == found["vanilla_gradients", "deletion"].n
    assert found["vanilla_gradients", "model_weight_randomization"].n == BUDGETS[budget].samples["again"]


def test_what_compares_classes_needs_two(monkeypatch):
    only(monkeypatch, ["vanilla_gradients"], [made_metric("comparing", needs=("classes",))])
    one = loaded(seeded(0, lambda: Pooled(classes=1)))
    assert [job.skip for job in jobs(one)[0].jobs] == ["compares two classes; the model has one"]
    assert [job.skip for job in jobs()[0].jobs] == [""]


def test_a_known_rule_speaks_of_each_image_s_own_class(monkeypatch):
    only(monkeypatch, ["vanilla_gradients"], [made_metric("ruled", needs=("rule",))])
    of = loaded()
    assert [job.skip for job in jobs(of)[0].jobs] == ["it is not proven which pixels drive the model on this data"]
    of = replace(of, subject=replace(of.subject, ruled=True))
    assert [job.skip for job in jobs(of)[0].jobs] == [""]
    assert [job.skip for job in jobs(of, target="2")[0].jobs] == [
        "the pixels known to drive the model are those of each image's own class"
    ]


@pytest.mark.usefixtures("few")
def test_n_goes_before_the_budget_and_may_not_exceed_what_there_is():
    assert {job.n for job in jobs(n=5)[0].jobs} == {5}
    with pytest.raises(CardgenError) as caught:
        jobs(n=25)
    assert str(caught.value) == "n is 25; expected at most 24, the samples of tiny-images; choose fewer"


def test_names_stand_for_themselves_or_for_groups_and_none_is_taken_twice():
    assert chosen_methods(["core", "rise"]) == [key for key in CORE if key in METHODS]
    assert chosen_methods(["rise", "core"])[0] == "rise"
    everything = chosen_methods(["all"])
    assert set(everything) == {key for key in METHODS if not METHODS[key].entry.control}
    assert chosen_metrics(["all"]) == list(METRICS)


@pytest.mark.parametrize(
    ("choose", "name", "message"),
    [
        (chosen_methods, "gradcam", r"no method is called 'gradcam'; did you mean grad_cam"),
        (chosen_metrics, "deltion", r"no metric is called 'deltion'; did you mean deletion"),
        (chosen_methods, "noise", r"no method is called 'noise'; "),
        (chosen_methods, "qqqqqq", r"no method is called 'qqqqqq'; known: .*, core, "),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(choose, name, message):
    with pytest.raises(CardgenError, match=message):
        choose([name])


@pytest.mark.usefixtures("few")
def test_every_job_has_a_key_of_its_own():
    plan, _ = jobs()
    family = [job for job in plan.families["judged"] if job.method.entry.key != "edges"]  # a prior is judged as it is
    for key in (lambda parts: digest(dict(parts)), scores_key):
        assert len({key(job.parts) for job in [*plan.jobs, *family]}) == len(plan.jobs) + len(family)


@pytest.mark.usefixtures("few")
def test_scores_do_not_depend_on_how_many_draws_of_noise_they_are_compared_with():
    quick, standard = (jobs(budget=budget)[0].jobs for budget in ("quick", "standard"))
    place = [job.metric.entry.key for job in quick].index("judged", 5)
    assert quick[place].method.entry.key == "grad_cam"
    assert quick[place].parts != standard[place].parts
    assert scores_key(quick[place].parts) == scores_key(standard[place].parts)


class TestSiblings:
    def skips(self, monkeypatch, methods, metrics, siblings):
        only(monkeypatch, methods, metrics)
        of = related(loaded(), siblings)
        return {(job.method.entry.key, job.metric.entry.key): job.skip for job in jobs(of)[0].jobs}

    def test_what_is_not_there_is_named(self, monkeypatch):
        model = loaded().subject.model
        found = self.skips(
            monkeypatch, ["vanilla_gradients"], ["repeatability", "data_randomization"], {"seed-1": model}
        )
        assert found == {
            ("vanilla_gradients", "repeatability"): "",
            (
                "vanilla_gradients",
                "data_randomization",
            ): "needs the sibling model random-labels, which was not looked for",
        }

    def test_a_sibling_that_a_method_cannot_explain_is_a_reason_and_no_failure(self, monkeypatch):
        flat = flat_model()
        found = self.skips(
            monkeypatch, ["vanilla_gradients", "grad_cam"], ["reproducibility", "deletion"], {"architecture": flat}
        )
        reason = found.pop(("grad_cam", "reproducibility"))
        assert reason.startswith("the sibling architecture: the model executes no Conv2d")
        assert set(found.values()) == {""}

    def test_controls_go_through_the_rules_between_models(self, monkeypatch):
        siblings = siblings_of(loaded().subject.model)
        keys = ["repeatability", "model_contrast_score"]
        found = self.skips(monkeypatch, ["vanilla_gradients", "noise", "edges", "planted_truth"], keys, siblings)
        assert set(found) == {(m, k) for m in ("vanilla_gradients", "noise", "edges", "planted_truth") for k in keys}
        assert set(found.values()) == {""}

    def test_keys_hold_their_weights(self, monkeypatch):
        only(monkeypatch, ["vanilla_gradients"], ["repeatability"])
        siblings = siblings_of(loaded().subject.model)
        one, same, other = (
            jobs(related(loaded(), {"seed-1": siblings[name]}))[0].jobs[0].parts
            for name in ("seed-1", "seed-1", "seed-2")
        )
        assert one == same
        assert {name for name in one if one[name] != other[name]} == {"siblings"}
