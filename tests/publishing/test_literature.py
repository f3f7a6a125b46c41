"""What was published: nothing lost, everything typed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cardgen.errors import CardgenError
from cardgen.literature import Literature, load_evaluations, load_every, load_literature
from cardgen.paths import shipped
from cardgen.published import published_sentence, table_sentences

FOLDER = shipped("evaluations/literature")
VERDICTS = {
    "integrated_gradients": 25,
    "vanilla_gradients": 22,
    "smoothgrad": 16,
    "grad_cam": 14,
    "lime": 5,
    "xrai": 4,
    "guided_backprop": 0,
    "input_x_gradient": 0,
    "rise": 0,
    "shap": 0,
    "sis": 0,
}


def test_every_method_with_all_its_verdicts_is_there() -> None:
    found = {key: len(load_literature(FOLDER, key).verdicts) for key in load_every(FOLDER)}
    assert found == VERDICTS
    assert sum(found.values()) == 86


def test_the_verdicts_by_kind() -> None:
    found = Counter(v.verdict for key in VERDICTS for v in load_literature(FOLDER, key).verdicts)
    assert found == {"inconclusive": 37, "pass": 30, "fail": 19}


def test_the_33_evaluations_of_the_template_cover_every_published_verdict() -> None:
    evaluations = {entry.evaluation: entry for entry in load_evaluations(FOLDER)}
    assert len(evaluations) == 33
    for key in VERDICTS:
        for verdict in load_literature(FOLDER, key).verdicts:
            assert evaluations[verdict.metric].attribute == verdict.attribute


def test_a_method_that_nobody_published_on_is_empty(tmp_path: Path) -> None:
    assert load_literature(tmp_path, "mine") == Literature(method="mine")
    assert load_evaluations(tmp_path) == ()


def test_a_file_of_another_method_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lime.yaml").write_text("method: rise\n")
    with pytest.raises(CardgenError) as caught:
        load_literature(tmp_path, "lime")
    assert str(caught.value) == (
        f"{tmp_path / 'lime.yaml'}: method: expected 'lime' as in the file's name, got 'rise'; rename one of the two"
    )


def test_a_wrong_verdict_names_file_and_field(tmp_path: Path) -> None:
    text = (FOLDER / "lime.yaml").read_text().replace("verdict: fail", "verdict: failed", 1)
    (tmp_path / "lime.yaml").write_text(text)
    with pytest.raises(
        CardgenError, match=r"lime\.yaml: verdicts\.\d\.verdict: Input should be 'pass', 'fail' or 'inc"
    ):
        load_literature(tmp_path, "lime")


def test_every_verdict_makes_a_sentence() -> None:
    names = {key: found.table.name for key, found in load_every(FOLDER).items() if found.table}
    for key in VERDICTS:
        for verdict in load_literature(FOLDER, key).verdicts:
            text = published_sentence(verdict, names)
            assert text.endswith(".")
            assert "_" not in text


def test_a_proven_verdict_says_so() -> None:
    verdict = next(
        v for v in load_literature(FOLDER, "vanilla_gradients").verdicts if v.metric == "implementation_invariance"
    )
    assert published_sentence(verdict, {}) == (
        "Functionally identical networks must give identical maps, by construction (guaranteed by the algorithm)."
    )


@pytest.mark.parametrize(
    ("key", "attribute", "text"),
    [
        ("vanilla_gradients", "hyperparameter_dependence", "No hyperparameters."),
        ("rise", "determinism", "Not deterministic. Masks are drawn at random."),
        (
            "smoothgrad",
            "computational_efficiency",
            "About 20 times its base method (ResNet50, 224x224x3 ImageNet image, one GPU; "
            "implementation: Google PAIR saliency).",
        ),
        (
            "sis",
            "computational_efficiency",
            "Sis: reported as too slow to time; batched gradient sis: about 10 s a map (ResNet50, 224x224x3 ImageNet image, "
            "one GPU; implementation: authors (gifford-lab/overinterpretation, google-research)).",
        ),
    ],
)
def test_table_a1_in_words(key: str, attribute: str, text: str) -> None:
    table = load_literature(FOLDER, key).table
    assert table is not None
    assert table_sentences(table)[attribute] == text
