"""Random numbers named by what they are for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cardgen import draws

IDS = ("cat", "dog", "owl", "yak", "zebra")


def test_seeds_are_pinned_since_every_record_rests_on_them():
    assert draws.seed_of(0, "ties", "cat") == 6123165364651219705
    assert draws.uniform(["cat"], (2,), 0, "noise", 0).flatten().tolist() == pytest.approx(
        [0.804145, 0.1020374], abs=1e-7
    )


@given(st.lists(st.integers(0, 99) | st.text(max_size=3), min_size=1, max_size=4))
def test_a_seed_is_63_bits_and_depends_on_every_part_and_the_order(parts):
    seed = draws.seed_of(*parts)
    assert 0 <= seed < 2**63
    assert seed != draws.seed_of(*parts, "more")
    if list(map(str, parts)) != list(map(str, parts[::-1])):
        assert seed != draws.seed_of(*parts[::-1])


def test_parts_do_not_run_into_each_other():
    assert draws.seed_of("ab", "c") != draws.seed_of("a", "bc")


@given(st.permutations(IDS), st.integers(1, 5))
def test_a_sample_s_draws_depend_on_nothing_but_itself(order, count):
    whole = dict(zip(IDS, draws.uniform(IDS, (3, 2), 7, "purpose"), strict=True))
    for name, values in zip(order[:count], draws.uniform(order[:count], (3, 2), 7, "purpose"), strict=True):
        assert torch.equal(values, whole[name])


def test_draws_differ_between_samples_purposes_seeds_and_draw_numbers():
    one = draws.uniform(["cat"], (4,), 0, "a", 0)
    for other in ((["dog"], 0, "a", 0), (["cat"], 1, "a", 0), (["cat"], 0, "b", 0), (["cat"], 0, "a", 1)):
        assert not torch.equal(one, draws.uniform(other[0], (4,), *other[1:]))


def test_uniform_numbers_are_uniform():
    values = draws.uniform([str(i) for i in range(200)], (500,), 0, "test").numpy()
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.005  # 5.5 standard errors
    assert abs(np.corrcoef(values[:100].ravel(), values[100:].ravel())[0, 1]) < 0.025


def test_permutations_hold_every_position_once():
    found = draws.permutations(IDS, 17, 0, "ties")
    assert torch.equal(found.sort(dim=1).values, torch.arange(17).expand(5, 17))
    assert len({tuple(row) for row in found.tolist()}) == 5


def test_the_global_generators_are_not_touched():
    before = torch.random.get_rng_state()
    draws.uniform(IDS, (2,), 0)
    draws.permutations(IDS, 5, 0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_content_names_follow_the_content_alone():
    images = torch.rand(3, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    names = draws.content_ids(images)
    assert len(set(names)) == 3
    assert draws.content_ids(images[[2, 0]]) == (names[2], names[0])
    assert draws.content_ids(images.flip(3).flip(3).contiguous()) == names
    changed = images.clone()
    changed[1, 0, 0, 0] += 1e-6
    assert draws.content_ids(changed)[1] != names[1]


def test_a_content_name_is_worked_out_when_it_is_asked_for_and_once(monkeypatch):
    made = []
    sha256 = draws.hashlib.sha256
    monkeypatch.setattr(draws.hashlib, "sha256", lambda data: made.append(data) or sha256(data))
    images = torch.rand(5, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    names = draws.ContentIds(images)
    part = names[1:4][1:]
    assert (len(names), len(part), made) == (5, 2, [])
    assert list(part) == list(part) == [names[2], names[3]]
    assert len(made) == 2
    assert tuple(names) == draws.content_ids(images)
    assert names[-1] == tuple(names)[4]
    with pytest.raises(IndexError):
        part[2]
