"""Value-matched noise: the method's values in the order of noise, worked out by hand and in plain loops."""

import numpy as np
import pytest
import torch
from small_models import tiny_subject

from cardgen import matched
from cardgen.draws import content_ids
from cardgen.methods import METHODS
from cardgen.study import Study, Subject

MEMBERS = ["noise", "noise_1", "noise_4", "noise_7", "noise_14"]


def subject_of(small):
    return Subject(small.model, small.inputs, small.targets, content_ids(small.inputs))


def test_the_family_is_the_noise_controls():
    assert sorted(matched.family()) == sorted(MEMBERS)


def test_in_orders_by_hand():
    # values 5 9 7 in the order 1 2 0; another order 2 0 1 gets 9 at 2, 7 at 0, 5 at 1
    values = torch.tensor([[[5.0, 9.0, 7.0]]])
    found = matched.in_orders(values, torch.tensor([1, 2, 0]), torch.tensor([[2, 0, 1], [1, 2, 0]]))
    assert found.tolist() == [[[[5, 9, 7]]], [[[7, 5, 9]]], [[[5, 9, 7]]]]


def test_maps_have_the_noise_s_order_and_the_method_s_values():
    small = tiny_subject()
    subject = subject_of(small)
    study = Study(subject, 7, given=small.maps)
    for i in (0, 4):
        found = matched.maps(study, i, 3).numpy()
        assert found.shape == (1 + 3 * len(MEMBERS), 12, 10)
        np.testing.assert_array_equal(found[0], small.maps[i].numpy())
        for row, (key, draw) in zip(found[1:], [(k, d) for k in matched.family() for d in range(3)], strict=True):
            method = METHODS[key]
            noise = Study(subject, 7, method, method.parameters({"draw": draw})).maps()[i].numpy().ravel()
            np.testing.assert_array_equal(np.sort(row.ravel()), np.sort(small.maps[i].numpy().ravel()))
            assert (
                np.diff(noise[np.argsort(-row.ravel())]) <= 0
            ).all()  # the larger noise has the larger value; it may tie


def test_one_sample_s_noise_is_the_same_in_any_company():
    small = tiny_subject()
    whole = matched.orders(subject_of(small), 5, 2)
    alone = matched.orders(subject_of(small.take([5])), 0, 2)
    assert torch.equal(whole, alone)


def test_draws_are_nested():
    subject = subject_of(tiny_subject())
    few, many = (matched.orders(subject, 1, k).view(len(MEMBERS), k, -1) for k in (2, 5))
    assert torch.equal(few, many[:, :2])
    assert len({tuple(row.tolist()) for row in many.flatten(0, 1)}) == 5 * len(MEMBERS)


@pytest.mark.parametrize("draws", [1, 3])
def test_parts_are_named_by_member(draws):
    scores = torch.arange(2.0 * draws * len(MEMBERS)).view(2, -1)
    parts = matched.parts(scores, draws)
    assert list(parts) == [f"matched/{key}" for key in matched.family()]
    for j, values in enumerate(parts.values()):
        assert values.dtype == np.float64
        np.testing.assert_array_equal(values, scores[:, j * draws : (j + 1) * draws].T.numpy())
