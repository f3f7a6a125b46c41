"""What stands on a card, before any Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from publishing_fixtures import bare, catalogue, metric_entry, record, subject, write_record, write_world

from cardgen.aggregator import load_all, verdicts
from cardgen.card import Card, make_card, subject_line
from cardgen.evidence import Evidence
from cardgen.findings import sentence
from cardgen.overview import controls_line, make_overview
from cardgen.records import Comparison, Provenance, Record, Rule
from cardgen.words import ATTRIBUTES


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return load_all(write_world(tmp_path), catalogue())


@pytest.fixture
def card(evidence: Evidence) -> Card:
    return make_card("grad_cam", evidence, verdicts(evidence.records), None)


def say(found: Record, evidence: Evidence) -> str:
    return sentence(found, found.verdict, "", evidence)


def test_a_pass_in_one_sentence_with_the_prior_that_is_not_beaten(evidence: Evidence) -> None:
    assert say(record("deletion"), evidence) == (
        "Beats every noise control; the least beaten is smooth noise 7×7, yet the method does no better than "
        "a centred Gaussian (area under the curve 0.213, 95 % interval 0.187 to 0.240, lower is better; "
        "smooth noise 7×7 gets 0.412; effect 1.23; n = 200 on digits-cnn)."
    )


@pytest.mark.parametrize(("low", "said"), [(-0.01, True), (0.0, True), (1e-6, False)])
def test_a_prior_is_beaten_when_the_interval_lies_above_zero(low: float, said: bool, evidence: Evidence) -> None:
    prior = Comparison(kind="prior", estimate=0.4, difference=0.1, interval=(low, 0.2), effect=1.0)
    text = say(record("deletion", controls={"edges": prior}), evidence)
    assert ("does no better than an edge detector" in text) is said


def test_two_priors_and_a_fail(evidence: Evidence) -> None:
    prior = Comparison(kind="prior", estimate=0.4, difference=-0.1, interval=(-0.2, 0.0), effect=-1.0)
    found = record("deletion", verdict="fail", reason="No better than noise: uniform noise.", flat=1)
    text = say(found.model_copy(update={"controls": {"edges": prior, "my_prior": prior}}), evidence)
    assert text == (
        "No better than noise: uniform noise, and the method does no better than an edge detector or my prior "
        "(area under the curve 0.213, 95 % interval 0.187 to 0.240, lower is better; 1 flat map; n = 200 on digits-cnn)."
    )


def test_an_axiom_s_number_is_the_share_for_which_it_holds(evidence: Evidence) -> None:
    found = record(
        "infidelity",
        reason="Holds: within 0.05 on 198 of 200 samples.",
        estimate=0.99,
        interval=(0.9643, 0.9972),
        effect=None,
        controls={},
        rule=Rule(name="axiom", thresholds={"tolerance": 0.05}),
    )
    assert say(found, evidence) == (
        "Holds: within 0.05 on 198 of 200 samples "
        "(share of samples 0.990, 95 % interval 0.964 to 0.997; n = 200 on digits-cnn)."
    )


def test_what_should_not_change_names_its_controls_in_the_reason_alone(evidence: Evidence) -> None:
    image = Comparison(kind="prior", estimate=0.05, difference=-2.1, interval=(-2.3, -1.9))
    found = record(
        "sensitivity_max",
        verdict="descriptive",
        reason="Changes 8.2 times as much as the image itself; edge detector: 1.3 times.",
        effect=-2.1,
        p=None,
        controls={"input_magnitude": image},
        rule=Rule(name="unchanged", thresholds={"margin": None}),
    )
    assert say(found, evidence) == (
        "Changes 8.2 times as much as the image itself; edge detector: 1.3 times (largest relative change 0.213, "
        "95 % interval 0.187 to 0.240, lower is better; n = 200 on digits-cnn)."
    )


def test_a_baseline_is_named_in_the_reason_alone(evidence: Evidence) -> None:
    found = record(
        "deletion",
        verdict="fail",
        reason="Maps are no more like the original ones than maps of different images: 0.21 against 0.22.",
        effect=-0.1,
        p=0.9,
        controls={
            "baseline": Comparison(kind="prior", estimate=0.22, difference=-0.01, interval=(-0.03, 0.01), effect=-0.1)
        },
        rule=Rule(name="vs_baseline", thresholds={"effect": 0.2}),
    )
    text = say(found, evidence)
    assert text.startswith("Maps are no more like the original ones than maps of different images: 0.21 against 0.22 (")
    assert "no better" not in text


def test_an_open_verdict_says_what_would_decide(evidence: Evidence) -> None:
    found = bare("insertion", "inconclusive", "Not told apart from uniform noise.", advice="about 340 samples")
    assert say(found, evidence) == (
        "Not told apart from uniform noise (n = 200 on digits-cnn). To decide: about 340 samples."
    )


def test_a_changed_verdict_stands_beside_the_records_own(evidence: Evidence) -> None:
    text = sentence(bare("deletion", "pass", "Holds."), "inconclusive", "because of this", evidence)
    assert (
        text
        == "Holds (n = 200 on digits-cnn). Its own verdict is pass 🟢, the final one inconclusive: because of this."
    )


def test_skipped_and_errors_say_so(evidence: Evidence) -> None:
    assert say(bare("deletion", "skipped", "no masks", n=0), evidence) == "Not tested on digits-cnn: no masks."
    assert (
        say(bare("deletion", "error", "ValueError: x.", n=0), evidence)
        == "Stopped with an error on digits-cnn: ValueError: x."
    )


def test_what_is_described_is_not_compared_and_not_said_twice(evidence: Evidence) -> None:
    found = record("sparsity", verdict="descriptive", reason="Maximum over mean: described, not judged.")
    assert say(found.model_copy(update={"controls": {}}), evidence) == (
        "Described, not judged (maximum over mean 0.213, 95 % interval 0.187 to 0.240; n = 200 on digits-cnn)."
    )
    assert "does no better" not in say(found, evidence)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"reported": {"forwards": 1, "backwards": 2}, "provenance": Provenance(timing={"seconds_batch_1": 0.0123})},
            "One map takes 12.3 ms alone, 1 forward pass and 2 backward passes (n = 8 on digits-cnn).",
        ),
        (
            {
                "estimate": 3.0,
                "provenance": Provenance(
                    timing={"seconds_batch_1": 2.5, "seconds_best_batch": 1.25, "peak_memory_mb": 812.3}, device="cuda"
                ),
            },
            "One map takes 2.5 s alone, 1.25 s each in a batch of 8, 3 passes through the model (a backward pass counts as "
            "one more) and at most 812 MB of memory on cuda (n = 8 on digits-cnn).",
        ),
        ({"provenance": Provenance(timing={"peak_memory_mb": None})}, "It was measured (n = 8 on digits-cnn)."),
    ],
)
def test_cost_in_words(changes: dict[str, Any], text: str, evidence: Evidence) -> None:
    assert say(bare("computational_efficiency", "descriptive", "It was measured.", n=8, **changes), evidence) == text


def test_the_sections_in_the_cards_own_order(card: Card) -> None:
    titles = [section.title for section in (*card.methodology.values(), *card.sensitivity, *card.perceptibility)]
    assert titles == list(ATTRIBUTES.values())


def test_summary_lines(card: Card, evidence: Evidence) -> None:
    assert card.sensitivity[0].summary == (
        "digits-cnn: 1 pass, 1 fail, 1 open, 1 skipped; resnet-photos: 1 open; of 15 evaluations (measured); "
        "published: 2 open"
    )
    assert card.sensitivity[1].summary == "none of 2 evaluations (measured); published: 2 pass"
    rise = make_card("rise", evidence, verdicts(evidence.records), None)
    assert rise.sensitivity[0].summary == "1 pass of 15 evaluations (measured); published: none"


def test_every_known_evaluation_is_either_measured_or_named_as_untested(card: Card, evidence: Evidence) -> None:
    sections = [*card.methodology.values(), *card.sensitivity, *card.perceptibility]
    named = [evaluation.title for section in sections for evaluation in (*section.measured, *section.untested)]
    assert sorted(named) == sorted(metric.title for metric in evidence.metrics.values())


def test_a_subject_without_a_record_is_named(card: Card) -> None:
    by_title = {evaluation.title: evaluation for evaluation in card.sensitivity[0].measured}
    assert by_title["Insertion"].statements[-1].text.endswith("on digits-cnn). Not tested on resnet-photos.")
    assert [statement.verdict for statement in by_title["Deletion"].statements] == ["pass", "inconclusive"]


def test_counts_are_of_final_verdicts(card: Card) -> None:
    assert card.counts == {"pass": 1, "inconclusive": 2, "fail": 2, "descriptive": 3, "skipped": 1, "error": 1}
    assert card.headline == "1 pass, 2 fail, 2 open, 3 descriptive, 1 skipped, 1 stopped with an error"


def test_published_verdicts_name_their_setting(card: Card) -> None:
    deletion = card.sensitivity[0].published[0]
    assert (deletion.title, deletion.url) == ("Deletion", "https://arxiv.org/pdf/1806.07421.pdf")
    assert deletion.statements[0].text.endswith(
        "(on ImageNet and CUB-200-2011; with ResNet50 and VGG16; against sliding-window occlusion, RISE, LIME, "
        "Ablation-CAM, Grad-CAM++ and Score-CAM)."
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "Subject digits-cnn (200 samples; accuracy 0.975, 95 % interval 0.943 to 0.989; budget quick)"),
        (
            {"health": "unknown", "accuracy": None, "accuracy_interval": None, "n": 1},
            "Subject digits-cnn (1 sample; accuracy not known, so nobody checked that the model has learned anything; "
            "budget quick)",
        ),
        (
            {"health": "unknown", "accuracy": 0.98, "accuracy_interval": None},
            "Subject digits-cnn (200 samples; accuracy 0.98; all of one class, so the accuracy does not show that the model has "
            "learned anything; budget quick)",
        ),
        (
            {"health": "chance", "accuracy": 0.1, "accuracy_interval": None},
            "Subject digits-cnn (200 samples; accuracy 0.1; at chance level, so nothing is judged; budget quick)",
        ),
        (
            {"target": "label", "accuracy": None, "accuracy_interval": None},
            "Subject digits-cnn (200 samples; the labelled class explained; budget quick)",
        ),
        (
            {"target": "1", "accuracy": None, "accuracy_interval": None, "classes": ("cat", "dog")},
            "Subject digits-cnn (200 samples; class 1 (dog) explained throughout; budget quick)",
        ),
        (
            {"target": "7", "accuracy": None, "accuracy_interval": None, "n": 1234},
            "Subject digits-cnn (1,234 samples; class 7 explained throughout; budget quick)",
        ),
    ],
)
def test_a_subject_with_its_health(changes: dict[str, Any], text: str) -> None:
    assert subject_line(subject(**changes), "budget quick") == text


def test_the_overview_marks_each_subject(evidence: Evidence) -> None:
    overview = make_overview(evidence, verdicts(evidence.records))
    matrix = next(matrix for matrix in overview.matrices if matrix.title == "Input Sensitivity")
    assert [column.title for column in matrix.columns] == ["Deletion", "Infidelity", "Insertion", "Sensitivity"]
    assert {row.method: row.cells for row in matrix.rows} == {
        "grad_cam": ("🟢🟨", "➖▫️", "🟥▫️", "🟨▫️"),
        "rise": ("🟢▫️", "▫️▫️", "▫️▫️", "▫️▫️"),
        "vanilla_gradients": ("🟨▫️", "🟥▫️", "🟨▫️", "▫️▫️"),
    }


TRUTH = (
    "The planted truth passes Deletion and Insertion. "
    "It knows nothing of the model, so it must fail what asks for model sensitivity."
)


def test_what_the_controls_did(evidence: Evidence) -> None:
    assert controls_line("digits-cnn", evidence) == (
        f"digits-cnn: none of 2 noise controls over 2 evaluations passed anything, as it must be. {TRUTH}"
    )
    assert controls_line("resnet-photos", evidence) == "resnet-photos: no controls measured."


def test_a_noise_control_that_passes_is_called_out(evidence: Evidence) -> None:
    passing = record("deletion", "noise_7", p=1e-6)
    others = tuple(
        found for found in evidence.control_records if (found.method, found.metric) != ("noise_7", "deletion")
    )
    broken = Evidence(**{**vars(evidence), "control_records": (*others, passing)})
    assert controls_line("digits-cnn", broken) == (
        "digits-cnn: of 2 noise controls over 2 evaluations, 1 passed something, which must not be: noise_7 passes Deletion. "
        + TRUTH
    )


def test_noise_that_is_never_decided_is_no_good_sign(evidence: Evidence) -> None:
    few = [record("deletion", key, verdict="inconclusive", p=0.5) for key in ("noise", "noise_7")]
    open_ = Evidence(**{**vars(evidence), "control_records": tuple(few)})
    said = "of 2 noise controls over 1 evaluation, none was decided, so they show nothing yet."
    assert controls_line("digits-cnn", open_) == f"digits-cnn: {said}"


def test_what_gives_noise_no_verdict_is_not_counted(evidence: Evidence) -> None:
    untold = [record("infidelity", "noise", verdict="descriptive"), record("sparsity", "noise_7", verdict="skipped")]
    more = Evidence(**{**vars(evidence), "control_records": (*evidence.control_records, *untold)})
    assert controls_line("digits-cnn", more) == controls_line("digits-cnn", evidence)


def test_a_control_that_nobody_knows_is_not_taken_for_noise(evidence: Evidence) -> None:
    unknown = Evidence(**{**vars(evidence), "controls": {}})
    assert controls_line("digits-cnn", unknown) == (
        "digits-cnn: no noise control measured. Of 4 controls the kind is not known."
    )


def test_a_third_partys_metric_stands_on_the_card(tmp_path: Path) -> None:
    root = write_world(tmp_path / "world")
    entry = metric_entry("deletion", key="my_metric", title="My Metric", attribute="minimality")
    write_record(root, record("my_metric", catalogue=entry))
    evidence = load_all(root, catalogue())
    card = make_card("grad_cam", evidence, verdicts(evidence.records), None)
    assert [evaluation.title for evaluation in card.perceptibility[0].measured] == ["Sparsity", "My Metric"]
