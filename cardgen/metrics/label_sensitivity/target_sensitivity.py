"""Target sensitivity: does the map of the class explained differ from the map of the least likely class?"""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.randomisation import MEASURES, against_itself
from cardgen.recipes import Targets
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.similarity import is_flat
from cardgen.study import Study, Subject


@metric(
    key="target_sensitivity",
    title="Target Sensitivity",
    attribute="label_sensitivity",
    question="Does the map of the class explained differ from the map of the least likely class?",
    quantity="Spearman correlation with the map of the least likely class",
    unit="correlation",
    direction="lower",
    source=Source(
        paper="Nauta et al. 2023", url="https://arxiv.org/abs/2201.08164", where="section 6.4, target sensitivity"
    ),
    rule="randomisation",
    size="again",
    needs=("classes",),
    requires=("model_weight_randomization",),
    passes=lambda n, explainer, p: n * (4 * explainer.passes + 2),
)
def target_sensitivity(study: Study) -> Scores:
    """Spearman correlation of a sample's map with the map of the class that the model finds least likely on it.

    Lower is better; between −1 and 1. Where the class explained is itself the least likely one, the most likely one is the other. As in
    all randomisation metrics the rule also needs the method's similarity to itself, under another seed and under weights changed by
    0.1 %: a map that changes anyway says nothing by changing. |A|, SSIM and HOG are reported, and how many maps of the other class
    are flat: those count as unlike. Nauta et al. 2023 collect the test from Pope et al. 2019 and others, who take other classes too.

    Raises:
        CardgenError: the model has one class only.
    """
    original, other = study.maps(), study.maps(LEAST_LIKELY)
    found = torch.stack([measure(original, other) for measure in MEASURES.values()], dim=1)[None]
    scores = against_itself(study, found)
    return replace(scores, reported={**scores.reported, "flat_other": int(is_flat(other).sum())})


def least_likely(subject: Subject, part: slice) -> Int[Tensor, " m"]:
    """The class of the lowest probability, or of the highest one where the class explained is the lowest; the first of equal ones."""
    probabilities = subject.probabilities(part.stop)[part]
    if probabilities.shape[1] < 2:
        raise CardgenError(
            "target_sensitivity compares two classes; the model has 1 output; leave the metric out, or give the model an output a class"
        )
    targets, lowest = subject.targets[part], probabilities.argmin(1)
    highest = probabilities.scatter(1, targets[:, None], -1).argmax(1)
    return torch.where(lowest == targets, highest, lowest)


LEAST_LIKELY = Targets("least likely", least_likely)
