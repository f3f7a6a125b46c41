"""Krippendorff's α: published examples, by hand, and against its coincidence matrix."""

import doctest
import time

import numpy as np
import pytest
from reference.reliability import alpha as reference

from cardgen import reliability
from cardgen.reliability import krippendorff

LEVELS = ("nominal", "ordinal", "interval")


def rows(*texts):
    return np.array([[np.nan if sign == "." else float(sign) for sign in text.replace(" ", "")] for text in texts])


# Krippendorff 2011, section C and D: four observers, twelve units, missing data; the values are those that he prints
FOUR = rows("12332141 2...", "12332241 25.3", ".3332342 251.", "12332441 251.")
# the same, sections A and B: two observers, binary and nominal data, a to e as 1 to 5
BINARY = rows("0100000010", "1110010000")
LETTERS = rows("112243335441", "212223335444")


@pytest.mark.parametrize(
    ("data", "level", "published"),
    [
        (FOUR, "nominal", 0.743),
        (FOUR, "ordinal", 0.815),
        (FOUR, "interval", 0.849),
        (BINARY, "nominal", 0.095),
        (LETTERS, "nominal", 0.692),
    ],
)
def test_published_examples(data, level, published):
    assert krippendorff(data, level) == pytest.approx(published, abs=5e-4)


def test_by_hand():
    # Two raters, items (1, 1), (2, 2), (3, 4). Nominal: one pair in three differs, D_o = 1/3; of the 30 ordered pairs of the six
    # ratings 26 differ, so α = 1 − 10/26. Ordinal: ranks 1½ 1½ 3½ 3½ 5 6, whose sum of squares is 90 and mean 3½, so Σ(i≠j) is
    # 2·6·(90 − 73½) = 198, D_o = 2·1/6, and α = 1 − 10/198.
    pair = np.array([[1.0, 2, 3], [1, 2, 4]])
    assert krippendorff(pair, "nominal") == pytest.approx(16 / 26)
    assert krippendorff(pair, "ordinal") == pytest.approx(188 / 198)
    assert krippendorff(pair) == pytest.approx(36 / 41)


def test_the_docstring():
    assert doctest.testmod(reliability).failed == 0


def random_ratings(seed, raters=6, items=15, missing=0.3):
    draws = np.random.default_rng(seed)
    found = np.rint(2 * draws.normal(size=items) + draws.normal(size=(raters, items)))
    return np.where(draws.random((raters, items)) < missing, np.nan, found)


@pytest.mark.parametrize("level", LEVELS)
def test_agrees_with_the_reference(level):
    for seed in range(8):
        data = random_ratings(seed)
        assert krippendorff(data, level) == pytest.approx(reference(data.tolist(), level), abs=1e-12)


MUTATIONS = {
    "missing ratings are zeros": lambda data, level: reference(np.nan_to_num(data).tolist(), level),
    "items rated once count": lambda data, level: reference(np.nan_to_num(data[:, ::2]).tolist(), level),
    "another level": lambda data, level: reference(data.tolist(), LEVELS[LEVELS.index(level) - 1]),
    "raters and items exchanged": lambda data, level: reference(data.T.tolist(), level),
}


@pytest.mark.parametrize("name", MUTATIONS)
@pytest.mark.parametrize("level", LEVELS)
def test_a_wrong_reference_would_be_seen(level, name):
    data = random_ratings(1) ** 3
    assert abs(krippendorff(data, level) - MUTATIONS[name](data, level)) > 0.005


@pytest.mark.parametrize("level", LEVELS)
class TestLimits:
    def test_all_agree(self, level):
        assert krippendorff(np.tile([1.0, 5, 2, 2], (3, 1)), level) == 1

    def test_two_raters_that_always_contradict_each_other(self, level):
        # all n(n − 1) ordered pairs of two zeros and two ones: 8 of 12 differ, those inside an item all do
        assert krippendorff(np.array([[0.0, 1], [1, 0]]), level) == pytest.approx(1 - 12 / 8)

    def test_chance(self, level):
        assert krippendorff(np.random.default_rng(0).integers(0, 5, (400, 20)) * 1.0, level) == pytest.approx(
            0, abs=0.01
        )

    @pytest.mark.parametrize(
        "data", [[[2.0, 2], [2, 2]], [[1.0, np.nan], [np.nan, 3]], [[1.0, 2]], [[np.nan], [np.nan]]]
    )
    def test_nothing_to_agree_on(self, level, data):
        assert krippendorff(np.array(data), level) == 0

    def test_an_item_that_one_rater_rated_has_no_part(self, level):
        data = random_ratings(3)
        alone = np.full((6, 1), np.nan)
        alone[2] = 90
        assert krippendorff(np.hstack([data, alone]), level) == krippendorff(data, level)

    def test_order_of_raters_and_items(self, level):
        data = random_ratings(4)
        assert krippendorff(data[::-1, ::-1], level) == pytest.approx(krippendorff(data, level), abs=1e-12)


def test_what_each_level_sees():
    data = random_ratings(5)
    assert krippendorff(np.exp(data), "ordinal") == pytest.approx(krippendorff(data, "ordinal"), abs=1e-12)
    assert krippendorff(3 * data + 1e6, "interval") == pytest.approx(krippendorff(data, "interval"), abs=1e-9)
    assert abs(krippendorff(np.exp(data), "interval") - krippendorff(data, "interval")) > 0.01


@pytest.mark.parametrize("level", LEVELS)
def test_four_hundred_raters_take_no_time(level):
    data = np.random.default_rng(1).random((400, 20)).argsort(1).astype(float)
    start = time.perf_counter()
    krippendorff(data, level)
    assert time.perf_counter() - start < 0.5
