"""ROAR, remove and retrain: do networks that learn anew without the pixels called most salient do worse?"""

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from cardgen import draws
from cardgen.errors import CardgenError
from cardgen.intervals import wilson
from cardgen.metrics import metric
from cardgen.over_seeds import SEEDS
from cardgen.records import Curve, Source, Value
from cardgen.removal import PERCENTS, Bench
from cardgen.scores import Scores
from cardgen.study import Study


@metric(
    key="roar",
    title="ROAR (remove and retrain)",
    attribute="input_sensitivity",
    question="Does a network that learns anew without the pixels called most salient do worse?",
    quantity="share of retrained networks that get the label right",
    unit="share",
    direction="lower",
    source=Source(paper="Hooker et al. 2019", url="https://arxiv.org/abs/1806.10758", where="section 3"),
    rule="vs_noise_over_seeds",
    size="retrained",
    needs=("weights", "labels", "training"),
    trains=lambda p: len(PERCENTS) * p["seeds"],
    passes=lambda n, explainer, p: (
        n * explainer.passes
        + p["images"] * (explainer.passes + 1)
        + (len(PERCENTS) + 1) * p["seeds"] * (n + 2 * p["epochs"] * p["images"])
    ),
)
def roar(study: Study, *, images: int = 2000, epochs: int = 8, seeds: int = 3) -> Scores:
    """Share of the networks retrained without the most salient pixels that get a sample's label right, in [0, 1]; lower is better.

    For t in 10, 30, 50, 70, 90 % of the pixels: in every training image and in every sample, the t % most salient ones by the method's
    map of that very image turn into the data's mean colour, all channels at once; the model's architecture is trained from new weights
    on these images, `seeds` times, and asked for the labels of the changed samples. The score of sample i is

        (1 / (5 · seeds)) Σ_t Σ_s [argmax f_{t,s}(x_i without its top t %) = y_i].

    Under seed s all networks, of whatever method or control and share, begin with the same weights and go through the images in the same
    order. Noise controls go through the same retraining, each with one draw: every image has a noise map of its own, and seeds are
    averaged. Priors are left out: each takes as long as a method, and none decides. The number of pixels is rounded half up, ties in a
    map are broken at random from the image's own generator, and the mean colour is rounded to one of 256 levels, as images are.
    Training images are explained for the class that the model predicts, as the samples are, or as the run's target says.

    Networks of one seed each are first trained on the images as they are. Unless these are clearly better than always naming the most
    frequent class, nothing can be told, and nothing else is trained: the scores are invalid, and the reason says so.

    What is batched: all shares and seeds of a method are trained together, as many at a time as pays (`fit_ensemble`); maps of training
    images are made in the subject's batches, and of each only the share at which a pixel goes is kept, one byte. A user's own training
    function is called for one network after the other. A network's weights depend on every training image's map to the last bit, so
    across devices and batch sizes scores agree as those of two seeds do, and not to a tolerance.

    Hooker, Erhan, Kindermans, Kim 2019, section 3; shares as there. They repeat training five times, here it is three. The paper speaks
    of pixels; the authors' code ranks the three channels of a pixel apart, truncates the number to remove, crops and flips images at
    random after removal, and explains the predicted class. Here an image is the same in every epoch. Which pixels are gone may itself
    tell the class (Rong et al. 2022), so that accuracy at a large share says little of a method alone; the noise controls have the
    shares, and not the shapes, in common with it.

    Args:
        study: one method on one subject, which has labels and images to train on.
        images: training images, the first of a random order; all, if there are fewer.
        epochs: passes over them, by the built-in recipe.
        seeds: networks a share.

    Raises:
        CardgenError: no labels, nothing to train on, a method that needs masks, maps alone, fewer than two seeds.
    """
    bench = _bench(study, images, epochs, seeds)
    whole = bench.whole(study.n)
    reported: dict[str, Value] = {"accuracy without removal": float(whole.mean())}
    chance = _chance(whole, bench.labels[: study.n])
    if chance:
        nothing = np.zeros(study.n, dtype=bool)
        parts = {SEEDS: np.zeros((seeds, study.n))}
        return Scores(np.zeros(study.n), nothing, study.flat(), parts, reported, reason=chance)
    right = bench.right(study)
    accuracy = right.mean((1, 2)).tolist()
    over_shares = right.mean(0)
    return Scores(
        over_shares.mean(0),
        np.ones(study.n, dtype=bool),
        study.flat(),
        parts={SEEDS: over_shares},
        reported={**reported, **{f"accuracy at {t} %": a for t, a in zip(PERCENTS, accuracy, strict=True)}},
        curve=Curve(
            x_label="share of pixels removed",
            y_label="accuracy of retrained networks",
            x=[0.0, *(t / 100 for t in PERCENTS)],
            y=[float(whole.mean()), *accuracy],
        ),
    )


def _chance(whole: Bool[np.ndarray, "seeds n"], labels: Int[Tensor, " n"]) -> str:
    """Why nothing can be told from retraining, if so: networks that saw all pixels know no more than which class is the most frequent."""
    n, accuracy = whole.shape[1], float(whole.mean())
    majority = float(labels.bincount().max()) / n
    if wilson(round(accuracy * n), n)[0] > majority:
        return ""
    return (
        f"Retrained on all pixels the network gets {accuracy:.1%} right, and naming the most frequent class {majority:.1%}: nothing can be "
        "told; give more training images or epochs."
    )


def _bench(study: Study, images: int, epochs: int, seeds: int) -> Bench:
    """What there is to retrain with.

    Raises:
        CardgenError: something of it is not there.
    """
    subject, method = study.subject, study.explainer()
    if subject.labels is None or subject.retraining is None:
        missing = "labels of the samples" if subject.labels is None else "labelled images to train on"
        raise CardgenError(f"roar needs {missing}; expected true_labels= and retraining=, got none; give them")
    if "masks" in method.needs:
        raise CardgenError(
            f"roar explains training images, and {method.entry.key} reads masks, which they do not have; choose another method"
        )
    if seeds < 2 or images < 2 or epochs < 1:
        raise CardgenError(
            f"roar with {seeds} seeds, {images} images and {epochs} epochs; expected at least 2 seeds, since one does not tell how much "
            "training varies, 2 images and 1 epoch; raise the parameter"
        )
    training = subject.retraining
    picked = subject.memo.get(("training images", images), lambda: training.picked(images, subject.seed))
    chosen = tuple(draws.seed_of(subject.seed, "retrained", seed) for seed in range(seeds))
    return Bench(subject, training, subject.labels, picked, epochs, chosen)
