"""Which samples are taken, and in what order."""

from collections import Counter
from collections.abc import Sequence

from cardgen.draws import seed_of


def stratified(labels: Sequence[int] | None, ids: Sequence[str], seed: int) -> list[int]:
    """An order of the samples of which every prefix is close to proportional over the labels.

    Within a class the samples stand in the order of a seeded digest of their ids. The sample of rank k in a class of m stands at
    (k + u) / m, where u in [0, 1) is drawn for the class; all samples are sorted by that. Of the first t samples a class of
    share s thus holds s·t, give or take one sample and what the other classes are off by.

    The order depends on seed, ids and labels alone: not on the order in which a file system lists them. A budget of fewer samples
    measures the first of a larger one, and a file more or less moves few of the others. Without labels (None) it is the order of
    the digests.

    Returns:
        Positions in `ids`, all of them.
    """
    marks = [seed_of(seed, "sample", name) for name in ids]
    if labels is None:
        return sorted(range(len(ids)), key=lambda i: (marks[i], ids[i]))
    sizes, seen = Counter(labels), Counter[int]()
    start = {label: seed_of(seed, "class", label) / 2**63 for label in sizes}
    places = [0.0] * len(ids)
    for i in sorted(range(len(ids)), key=lambda i: (marks[i], ids[i])):
        places[i] = (seen[labels[i]] + start[labels[i]]) / sizes[labels[i]]
        seen[labels[i]] += 1
    return sorted(range(len(ids)), key=lambda i: (places[i], marks[i], ids[i]))
