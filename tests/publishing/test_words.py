"""Numbers and lists as they stand on cards."""

from __future__ import annotations

import pytest

from cardgen.words import estimate, listing, number, plural, seconds, tally


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (0.21344, "0.213"),
        (-0.05, "−0.05"),
        (1.0, "1"),
        (99.96, "100"),
        (999.9, "1,000"),
        (1234.0, "1,230"),
        (1e6, "1 × 10⁶"),
        (3.21e-7, "3.2 × 10⁻⁷"),
        (-2e-5, "−2 × 10⁻⁵"),
        (0.001, "0.001"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (0.2134, (0.187, 0.2398), "0.213, 95 % interval 0.187 to 0.240"),
        (1.234, (0.9, 1.5), "1.23, 95 % interval 0.90 to 1.50"),
        (123.4, (100.0, 150.0), "123, 95 % interval 100 to 150"),
        (3.0, (3.0, 3.0), "3"),
        (0.5, None, "0.5"),
        (1e-6, (0.0, 2e-6), "1 × 10⁻⁶, 95 % interval 0 to 2 × 10⁻⁶"),
    ],
)
def test_an_estimate_is_as_precise_as_its_interval(value: float, interval: tuple[float, float], text: str) -> None:
    assert estimate(value, interval) == text


@pytest.mark.parametrize(("value", "text"), [(0.00321, "3.21 ms"), (0.35, "0.35 s"), (99.0, "99 s"), (240.0, "4 min")])
def test_durations(value: float, text: str) -> None:
    assert seconds(value) == text


def test_plurals_lists_and_tallies() -> None:
    assert (plural(1, "map"), plural(0, "map"), plural(2, "pass", "passes")) == ("1 map", "0 maps", "2 passes")
    assert (listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])) == ("a", "a and b", "a, b and c")
    assert tally({"inconclusive": 1, "pass": 2, "fail": 0, "total": 9}) == "2 pass, 1 open"
