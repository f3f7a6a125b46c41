"""What training many models together saves, or costs, beside training them one after another."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.clock import median, taking_turns
from benchmarks.results import Result
from cardgen.subjects.ensemble import fit_ensemble
from cardgen.subjects.fitting import Course, TrainingData
from cardgen.subjects.networks import SmallCNN, normalised

SIZE = 64
TOGETHER, IN_TURN = "together", "one after another"


def ensemble(device: torch.device, *, members: int = 15, n: int = 128, epochs: int = 1, rounds: int = 3) -> Result:
    """Seconds that `fit_ensemble` takes for retrainings of the embedded network, both ways; the median of rounds that take turns.

    All in: first weights, a trial step, changed images, the accuracy afterwards. Each member's images have other pixels replaced, as in
    ROAR, and every member draws its own batches.

    Args:
        device: where to measure.
        members: models.
        n: images an epoch.
        epochs: passes over them.
        rounds: repetitions.
    """
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, SIZE, SIZE), generator=draws).to(torch.uint8)
    labels = torch.arange(n) % 10
    data, course = TrainingData(lambda _: (images, labels), normalised, "noise"), Course(epochs=epochs)
    model = SmallCNN().to(device)

    def run(together: bool) -> Callable[[], object]:
        return partial(fit_ensemble, model, data, course, range(members), grey_rows, together=together)

    times = taking_turns({TOGETHER: run(True), IN_TURN: run(False)}, device, rounds)
    ratio = median(times[IN_TURN]) / median(times[TOGETHER])
    chosen = TOGETHER if device.type == "cuda" else IN_TURN
    steps = epochs * -(-n // course.batch_size)
    return Result(
        "ensemble",
        f"the way that fit_ensemble chooses here, {chosen}, is the faster one",
        (ratio >= 1) == (chosen == TOGETHER),
        {"model": "SmallCNN", "image": [3, SIZE, SIZE], "members": members, "n": n, "epochs": epochs, "rounds": rounds},
        [
            {
                "way": way,
                "seconds": median(spent),
                "ms a member's step": 1000 * median(spent) / members / steps,
                "lowest": min(spent),
                "highest": max(spent),
            }
            for way, spent in times.items()
        ],
        {way: list(spent) for way, spent in times.items()},
        [f"together is {ratio:.2f} times as fast as one after another"],
    )


def grey_rows(member: int, rows: Tensor, images: Tensor) -> Tensor:
    """A member's version of images: as many rows of pixels from the top as its number says are grey."""
    changed = images.clone()
    changed[:, :, :member] = 128
    return changed
