"""Worst-case soundness: do the maps of unlikely labels, shown alone, make their labels likely?"""

import numpy as np
import torch

from cardgen.labels import drawn_areas, drawn_labels, top_areas, top_labels
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study

FLOOR = 0.001


@metric(
    key="worst_case_soundness",
    title="Worst-Case Soundness",
    attribute="label_sensitivity",
    question="Does no label become likelier than it is when only the pixels that its own map calls most salient are kept?",
    quantity="a label's probability over that which its most salient pixels alone give it, of the label that gains most",
    unit="ratio",
    direction="higher",
    source=Source(
        paper="Gupta et al. 2022", url="https://arxiv.org/abs/2211.02912", where="equation 1 and definition 3.7"
    ),
    rule="descriptive",
    size="few",
    passes=lambda n, explainer, p: n * (1 + p["labels"] * (explainer.passes + p["steps"] - 1)),
)
def worst_case_soundness(study: Study, *, steps: int = 50, labels: int = 10, substrate: str = "grey") -> Scores:
    """min over labels a of min{max(f_a(x), ε₂) / g_AUC(x, a, A_a), 1}; ε₂ = 0.001.

    f_a is the softmax probability of label a, A_a the map of label a, and g_AUC the plain mean over s = step, 2 step, …, all pixels of
    f_a(the s most salient pixels of A_a on a grey image), as in worst_case_completeness, which shares these curves. Higher is better;
    between 0 and 1. Ties are broken at random, from the sample's own generator. Gupta et al. 2022, equation 1 and definition 3.7.

    Never a verdict: a map that shows nothing makes nothing likely, so that noise is among the soundest (table 1 of the paper has it
    above Fong & Vedaldi's masks). Read it beside worst_case_completeness.

    All labels are looked at where there are at most `labels`. Where there are more, all of them would take as many maps and curves a
    sample as there are classes; then the class explained, the most probable others, and once more as many drawn at random from the
    rest by the sample's own generator are looked at, up to `labels` each. The score is then an upper bound. ε₂ is that of the paper; the
    published script takes 0.1.

    Reported: `wrong_labels`, the mean over labels other than the class explained of that ratio, which shows a method that gives one
    map to all labels; `labels`, how many are looked at; `classes`, of how many.

    Args:
        study: one method on one subject; it explains other labels too, so maps alone do not do.
        steps: equal steps from the substrate to the image.
        labels: most labels a sample, of the most probable ones and again of those drawn.
        substrate: what stands where pixels are not kept.
    """
    study.explainer()
    subject, n = study.subject, study.n
    probabilities = subject.probabilities(n)
    likely, unlikely = (top_areas(study, labels, steps, substrate, likely=likely) for likely in (True, False))
    areas = torch.cat([likely + unlikely, drawn_areas(study, labels, steps, substrate)], dim=1)
    looked = torch.cat([top_labels(subject, n, labels), drawn_labels(subject, n, labels)], dim=1)
    ratios = (probabilities.gather(1, looked).double().clamp_min(FLOOR) / areas).clamp_max(1)
    wrong = ratios[:, 1:]
    return Scores(
        ratios.amin(1).cpu().numpy(),
        np.ones(n, dtype=bool),
        study.flat(),
        reported={
            "wrong_labels": float(wrong.mean()) if wrong.shape[1] else None,
            "labels": looked.shape[1],
            "classes": probabilities.shape[1],
        },
    )
