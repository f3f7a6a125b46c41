"""Everything computed once, and what it cost known whoever paid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardgen.memo import Memo


def paid(memo, samples, value="value"):
    def compute():
        memo.add(samples)
        return value

    return compute


def test_a_value_is_computed_at_the_first_request_only():
    memo = Memo()
    assert memo.get("a", lambda: "first") == "first"
    assert memo.get("a", lambda: pytest.fail("computed twice")) == "first"


def test_none_is_a_value_too():
    memo = Memo()
    memo.get("a", lambda: None)
    assert memo.get("a", lambda: pytest.fail("computed twice")) is None


def test_a_run_costs_what_it_forwards_and_what_it_uses_each_once():
    memo = Memo()

    def compute():
        memo.add(1)
        memo.get("a", paid(memo, 10))
        memo.get("a", paid(memo, 10))
        memo.get("b", lambda: memo.get("a", paid(memo, 10)) and paid(memo, 100)())
        return "done"

    assert memo.run(compute) == ("done", 111)


def test_what_someone_else_paid_for_is_charged_all_the_same():
    memo = Memo()

    def compute():
        return memo.get("b", lambda: (memo.get("a", paid(memo, 10)), paid(memo, 5)())[1])

    assert memo.run(compute)[1] == memo.run(compute)[1] == 15


@given(st.permutations(["x", "y", "z"]))
def test_costs_do_not_depend_on_who_came_first(order):
    memo = Memo()
    uses = {"x": ("a",), "y": ("a", "b"), "z": ("b", "c")}
    samples = {"a": 1, "b": 20, "c": 300}
    found = {
        name: memo.run(lambda name=name: [memo.get(key, paid(memo, samples[key])) for key in uses[name]])[1]
        for name in order
    }
    assert found == {"x": 1, "y": 21, "z": 320}


def test_what_is_forgotten_is_computed_and_charged_again():
    memo = Memo()
    memo.run(lambda: (memo.get("a", paid(memo, 10)), memo.get("b", paid(memo, 5))))
    memo.forget(lambda key: key == "b")
    assert memo.get("b", lambda: pytest.fail("forgotten")) == "value"
    assert memo.run(lambda: memo.get("a", paid(memo, 11, "new"))) == ("new", 11)


def test_a_computation_that_raises_leaves_nothing_behind():
    memo = Memo()

    def raises():
        memo.add(7)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        memo.run(lambda: memo.get("a", raises))
    assert memo.run(lambda: memo.get("a", paid(memo, 3))) == ("value", 3)
