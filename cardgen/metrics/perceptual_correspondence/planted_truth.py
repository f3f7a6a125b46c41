"""Planted truth: the map as a detector of the pixels that provably drive the model."""

from jaxtyping import Bool, Float
from torch import Tensor

from cardgen.errors import CardgenError
from cardgen.metrics import metric
from cardgen.records import Source
from cardgen.scores import Scores
from cardgen.similarity import average_ranks
from cardgen.study import Study


@metric(
    key="planted_truth",
    title="Planted Truth",
    attribute="perceptual_correspondence",
    question="Does the map tell the pixels that provably drive the model from all others?",
    quantity="area under the ROC curve of the map as a detector of the pixels that drive the model",
    direction="higher",
    source=Source(
        paper="Nauta et al. 2023",
        url="https://arxiv.org/abs/2201.08164",
        where="correctness: white box check, controlled synthetic data check",
    ),
    rule="vs_noise",
    size="maps",
    needs=("masks", "rule"),
)
def planted_truth(study: Study) -> Scores:
    """The share of pairs of a pixel that drives the model and one that does not in which the former is more salient; ties count half.

    Higher is better; between 0 and 1. A flat map has exactly 1/2, a map without information about that. Not valid where no pixel
    drives the model, or all do. It runs where masks are proven to be the pixels that drive the model, all of them and no others, as on
    `marker-cnn` with `markers-on-textures`; from Python, whoever gives masks vouches for that.

    Of a method whose sign means evidence for and against the class, the magnitude counts: a pixel with much evidence against the
    class drives the model as well, and zero is what it gives a pixel without effect. Other methods' maps, and maps that
    are given, count as they are. Nauta et al. 2023 gather the two checks from papers that each compare with known importance in their
    own way; the area under the ROC curve needs no threshold, and no number of pixels to be fixed.
    """
    masks = study.subject.masks
    if masks is None:
        raise CardgenError(
            "planted_truth needs masks of the pixels that drive the model; the data has none; give masks=, or run marker-cnn on "
            "markers-on-textures"
        )
    maps, deciding = study.maps().flatten(1), masks[: study.n].flatten(1)
    signed = study.method is not None and study.method.entry.signed
    values = roc_auc(maps.abs() if signed else maps, deciding)
    return Scores(values.cpu().numpy(), (deciding.any(1) & ~deciding.all(1)).cpu().numpy(), study.flat())


def roc_auc(values: Float[Tensor, "n p"], positive: Bool[Tensor, "n p"]) -> Float[Tensor, " n"]:
    """Mann and Whitney's U of the positive over the number of pairs, float64; 0 where there is no pair."""
    inside = positive.sum(1).double()
    above = (average_ranks(values) * positive).sum(1) - inside * (inside + 1) / 2
    return above / (inside * (positive.shape[1] - inside)).clamp_min(1)
