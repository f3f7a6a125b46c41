"""The health gate: accuracy against always naming the most frequent class."""

import pytest
import torch

from cardgen.subjects.loading import health


def gate(hits, labels):
    """The gate of a model that is right on the first `hits` samples and names a class of no sample on the others."""
    labels = torch.tensor(labels)
    predicted = torch.where(torch.arange(len(labels)) < hits, labels, 99)
    return health(predicted, labels)


@pytest.mark.parametrize(
    ("hits", "labels", "found"),
    [
        (30, [0, 1] * 20, "healthy"),  # 30 of 40: Wilson's interval .60 to .86, majority .5
        (25, [0, 1] * 20, "chance"),  # 25 of 40: .47 to .76
        (36, [0] * 36 + [1] * 4, "chance"),  # as good as always naming class 0
        (40, [0] * 40, "unknown"),  # one class: the majority is always right
        (0, [0] * 40, "unknown"),
    ],
)
def test_against_the_majority(hits, labels, found):
    assert gate(hits, labels)["health"] == found
    assert gate(hits, labels)["accuracy"] == hits / len(labels)


def test_without_labels():
    assert health(torch.zeros(4, dtype=torch.int64), None) == {"health": "unknown"}
