"""Every prefix is a fair draw, the same wherever the files came from."""

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardgen.draws import seed_of
from cardgen.subjects.sampling import stratified

UNEVEN = [0] * 70 + [1] * 20 + [2] * 9 + [5]
NAMES = [f"{label}/{i:03d}.png" for i, label in enumerate(UNEVEN)]


def taken(labels, ids, seed, n):
    return [ids[i] for i in stratified(labels, ids, seed)[:n]]


def test_a_worked_example():
    """Two of class 0 at u/2 and (1 + u)/2, one of class 1 at its own u."""
    u = [seed_of(0, "class", label) / 2**63 for label in (0, 1)]
    assert u == pytest.approx([0.4424, 0.5113], abs=1e-4)  # so 0.22 (class 0), 0.51 (class 1), 0.72 (class 0)
    first, second = sorted(["a", "b"], key=lambda name: seed_of(0, "sample", name))
    assert taken([0, 1, 0], ["a", "c", "b"], 0, 3) == [first, "c", second]


@pytest.mark.parametrize("seed", range(20))
def test_every_prefix_is_close_to_proportional(seed):
    """Four classes: each is off by less than one of its own, and by its share of what all four are off."""
    order = stratified(UNEVEN, NAMES, seed)
    assert sorted(order) == list(range(100))
    for t in range(1, 101):
        counts = Counter(UNEVEN[i] for i in order[:t])
        for label, size in Counter(UNEVEN).items():
            assert abs(counts[label] - t * size / 100) < 1 + 4 * size / 100


def test_many_classes_come_once_each_before_any_comes_twice():
    labels = [i % 50 for i in range(500)]
    order = stratified(labels, [str(i) for i in range(500)], 0)
    for k in range(0, 500, 50):
        assert sorted(labels[i] for i in order[k : k + 50]) == list(range(50))


@given(st.permutations(range(100)), st.integers(0, 3))
def test_the_order_of_listing_does_not_matter(shuffled, seed):
    ids, labels = [NAMES[i] for i in shuffled], [UNEVEN[i] for i in shuffled]
    assert taken(labels, ids, seed, 100) == taken(UNEVEN, NAMES, seed, 100)
    assert taken(None, ids, seed, 100) == taken(None, NAMES, seed, 100)


@pytest.mark.parametrize("labels", [UNEVEN, None])
def test_one_file_more_disturbs_little(labels):
    for seed in range(10):
        more = None if labels is None else [*labels, 1]
        before, after = taken(labels, NAMES, seed, 30), taken(more, [*NAMES, "1/new.png"], seed, 30)
        assert len(set(before) - set(after)) <= 2


def test_seeds_draw_differently_and_within_a_class_evenly():
    draws = [taken(UNEVEN, NAMES, seed, 10) for seed in range(400)]
    assert len({tuple(sorted(draw)) for draw in draws}) > 390
    times = Counter(name for draw in draws for name in draw)
    large = np.array([times[name] for name in NAMES[:70]])
    assert large.min() > 15  # 40 expected, standard deviation 6
    assert large.max() < 65


def test_without_labels_the_draw_is_even_too():
    first = Counter(name for seed in range(400) for name in taken(None, NAMES, seed, 10))
    assert 18 < min(first.values()) <= max(first.values()) < 65


def test_a_hundred_thousand_names_in_a_moment():
    start = time.process_time()
    stratified([i % 1000 for i in range(100_000)], [f"{i}.jpg" for i in range(100_000)], 0)
    assert time.process_time() - start < 5
