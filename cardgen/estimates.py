"""What a plan will cost, from a probe of the bare model."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from cardgen.forward import prepared, target_logits
from cardgen.plan import Job
from cardgen.probe import throughput
from cardgen.subjects.loading import Loaded
from cardgen.timing import peak_memory_mb


@dataclass(frozen=True)
class Probe:
    """Measured on the model at hand.

    Attributes:
        rate: samples forwarded a second, at the run's batch size.
        memory_mb: taken by one batch forwards, and backwards where the model allows; None where there is no gauge.
    """

    rate: float
    memory_mb: float | None


def probe(loaded: Loaded) -> Probe:
    """Time and memory of one batch."""
    subject = loaded.subject
    batch = min(subject.batch, len(subject))
    with prepared(subject.model), torch.no_grad():
        rate = throughput(subject.model, subject.inputs[:1], subject.batch)

    def once() -> None:
        inputs = subject.inputs[:batch].detach().clone().requires_grad_(not loaded.black_box)
        with prepared(subject.model), torch.set_grad_enabled(not loaded.black_box):
            score = target_logits(subject.model, inputs, subject.targets[:batch]).sum()
            if not loaded.black_box:
                torch.autograd.grad(score, inputs)

    return Probe(rate, peak_memory_mb(once, subject.inputs.device))


def forwarded(jobs: Sequence[Job]) -> int:
    """Samples to be forwarded for jobs, with the maps of each method counted once, since its metrics share them.

    An upper estimate: other work that metrics share is counted for each of them.
    """
    total = 0
    for _, group in groupby(jobs, key=lambda job: job.method.entry.key):
        mine = list(group)
        maps = [job.n * job.explainer.passes for job in mine]
        own = [max(job.passes - shared, 0) for job, shared in zip(mine, maps, strict=True)]
        total += sum(own) + max(maps)
    return total
