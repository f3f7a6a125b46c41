"""Worst-case completeness: do the maps of all likely labels, shown alone, keep their labels likely?"""

import torch

from cardgen.labels import LIKELY, top_areas, top_labels
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.study import Study


@metric(
    key="worst_case_completeness",
    title="Worst-Case Completeness",
    attribute="input_sensitivity",
    question="Is each likely label still likely when only the pixels that its own map calls most salient are kept?",
    quantity="share of a likely label's probability that its most salient pixels keep, of the label that loses most",
    unit="ratio",
    direction="higher",
    source=Source(
        paper="Gupta et al. 2022", url="https://arxiv.org/abs/2211.02912", where="equation 1 and definition 3.7"
    ),
    rule="vs_noise",
    size="again",
    passes=lambda n, explainer, p: n * (1 + p["labels"] * (explainer.passes + p["steps"] - 1)),
)
def worst_case_completeness(study: Study, *, steps: int = 50, labels: int = 10, substrate: str = "grey") -> Scores:
    """min over labels a with f_a(x) ≥ ε₁ of min{max(g_AUC(x, a, A_a), ε₁) / f_a(x), 1}; ε₁ = 0.01.

    f_a is the softmax probability of label a, and A_a the map of label a, whatever class is explained elsewhere. g_AUC is the plain
    mean over s = step, 2 step, …, all pixels of f_a(the s most salient pixels of A_a on a grey image): the bare substrate is no part
    of it and the image itself is, there is no trapezoid. Higher is better; between 0 and 1. Ties are broken at random, from the
    sample's own generator. Not valid where no label has f_a(x) ≥ ε₁. Gupta et al. 2022, equation 1 and definition 3.7.

    At most 1/ε₁ = 100 labels can be that likely; of more than `labels` the most probable ones are looked at, and the class explained.
    The score is then an upper bound; how many samples that is true of is reported as `cut`. Only pairs of sample and label with
    f_a(x) ≥ ε₁ are explained and forwarded, so that the passes declared are the most that may come. ε₁ is that of the paper; the
    published script takes 0.1, which nearly doubles the figures. A method that gives one map to all labels is measured with that map.

    Reported: `explained`, the mean for the class explained alone, whatever its probability is, where it is at least ε₁; `labels`,
    the mean number of labels looked at.

    Args:
        study: one method on one subject; it explains other labels too, so maps alone do not do.
        steps: equal steps from the substrate to the image.
        labels: most labels a sample.
        substrate: what stands where pixels are not kept.
    """
    study.explainer()
    subject, n = study.subject, study.n
    probabilities = subject.probabilities(n)
    clean = probabilities.gather(1, top_labels(subject, n, labels))
    likely, areas = clean >= LIKELY, top_areas(study, labels, steps, substrate, likely=True)
    ratios = (areas.clamp_min(LIKELY) / clean).clamp_max(1).where(likely, torch.inf)
    valid, own = likely.any(1), ratios[likely[:, 0], 0]
    return Scores(
        ratios.amin(1).where(valid, 0.0).cpu().numpy(),
        valid.cpu().numpy(),
        study.flat(),
        reported={
            "explained": float(own.mean()) if len(own) else None,
            "labels": float(likely.sum(1).double().mean()),
            "cut": int(((probabilities >= LIKELY).sum(1) > likely.sum(1)).sum()),
        },
    )
