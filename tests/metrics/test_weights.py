"""Changed weights: what a reset reaches, in which order, and that nothing of it stays."""

from itertools import pairwise

import pytest
import torch
from small_models import Tiny, lively, seeded, snapshot, untouched
from torch import nn

from cardgen import weights


def all_reset(model, example, seed=0, draw=0):
    return {
        k: v
        for name in weights.layers_from_top(model, example)
        for k, v in weights.reset(model, name, seed, draw).items()
    }


class Attentive(nn.Module):
    """Attention, a class token, a layer scale, layer norm: parameters that no `reset_parameters` reaches."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)  # defined first, executed last
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.scale = nn.Parameter(torch.randn(8))
        self.norm = nn.LayerNorm(8)
        self.embed = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = x + self.scale * self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.norm(x[:, 0]))


EXAMPLE = torch.rand(1, 3, 12, 10)


class TestReset:
    def test_every_parameter_and_buffer_changes(self, tiny):
        state, fresh = tiny.model.state_dict(), all_reset(tiny.model, tiny.inputs[:1])
        assert set(fresh) == set(state)
        same = [k for k in state if torch.equal(state[k], fresh[k]) and not k.endswith("num_batches_tracked")]
        assert same == []

    def test_normalisation_statistics_start_anew(self, tiny):
        fresh = weights.reset(tiny.model, "features.norm1", 0, 0)
        assert torch.equal(fresh["features.norm1.running_mean"], torch.zeros(4))
        assert torch.equal(fresh["features.norm1.running_var"], torch.ones(4))

    def test_layers_of_one_shape_get_different_values(self):
        model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(4)))
        drawn = [weights.reset(model, str(i), 0, 0)[f"{i}.weight"] for i in range(4)]
        assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[i + 1 :])
        spread = [abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) for a, b in pairwise(drawn)]
        assert max(spread) < 0.6

    def test_same_seed_and_draw_give_the_same_values(self, tiny):
        one, again, draw, seed = (
            weights.reset(tiny.model, "head", *which)["head.weight"] for which in ((0, 0), (0, 0), (0, 1), (1, 0))
        )
        assert torch.equal(one, again)
        assert not torch.equal(one, draw)
        assert not torch.equal(one, seed)

    def test_values_do_not_depend_on_the_weights_that_were_there(self, tiny):
        other = lively(seeded(9, Tiny), 9)
        assert torch.equal(
            weights.reset(tiny.model, "head", 0, 0)["head.weight"], weights.reset(other, "head", 0, 0)["head.weight"]
        )

    def test_the_spread_is_the_constructors(self):
        model = nn.Sequential(nn.Linear(400, 300))
        model[0].weight.data *= 50
        fresh = weights.reset(model, "0", 0, 0)["0.weight"]
        assert fresh.abs().max() <= 0.05  # Kaiming's uniform bound for 400 inputs, 1/√400
        assert fresh.std() == pytest.approx(0.05 / 3**0.5, rel=0.02)

    def test_parameters_without_a_reset_of_their_own(self):
        model = seeded(1, Attentive)
        fresh, state = all_reset(model, EXAMPLE), model.state_dict()
        for name in (
            "token",
            "scale",
            "attention.in_proj_weight",
            "attention.out_proj.weight",
            "embed.weight",
            "head.weight",
        ):
            assert not torch.equal(fresh[name], state[name]), name
            assert fresh[name].shape == state[name].shape
        assert torch.corrcoef(torch.stack([fresh["token"].flatten(), state["token"].flatten()]))[0, 1].abs() < 0.9

    def test_torchs_generator_is_left_alone(self, tiny):
        before = snapshot(tiny.model)["generator"]
        all_reset(tiny.model, tiny.inputs[:1])
        all_reset(seeded(1, Attentive), EXAMPLE)
        assert torch.equal(before, torch.random.get_rng_state())

    def test_it_only_returns_values(self, tiny):
        with untouched(tiny.model):
            all_reset(tiny.model, tiny.inputs[:1])


class TestChanged:
    def test_values_are_in_for_the_length_of_the_block_and_bit_identical_afterwards(self, tiny):
        before = snapshot(tiny.model)
        fresh = all_reset(tiny.model, tiny.inputs[:1])
        addresses = {k: v.data_ptr() for k, v in tiny.model.state_dict().items()}
        with weights.changed(tiny.model, fresh):
            assert all(torch.equal(v, fresh[k]) for k, v in tiny.model.state_dict().items())
        after = snapshot(tiny.model)
        assert all(torch.equal(before["tensors"][k][1], after["tensors"][k][1]) for k in before["tensors"])
        assert all(before["tensors"][k][0] == after["tensors"][k][0] for k in before["tensors"])
        assert addresses == {k: v.data_ptr() for k, v in tiny.model.state_dict().items()}

    def test_also_after_an_exception(self, tiny):
        fresh = all_reset(tiny.model, tiny.inputs[:1])
        with untouched(tiny.model), pytest.raises(KeyboardInterrupt), weights.changed(tiny.model, fresh):
            raise KeyboardInterrupt

    def test_weights_that_two_layers_share(self):
        model = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
        model[2].weight = model[0].weight
        fresh = weights.reset(model, "2", 0, 0)
        with untouched(model), weights.changed(model, fresh):
            assert torch.equal(model[2].weight, fresh["2.weight"])

    def test_the_predictions_do_change(self, tiny):
        with torch.no_grad():
            before = tiny.model(tiny.inputs)
            with weights.changed(tiny.model, all_reset(tiny.model, tiny.inputs[:1])):
                assert (tiny.model(tiny.inputs) - before).abs().max() > 0.1
            assert torch.equal(tiny.model(tiny.inputs), before)


class TestJitter:
    def test_it_is_relative_and_small(self, tiny):
        moved = weights.jitter(tiny.model, 1e-3, 0)
        for name, value in tiny.model.named_parameters():
            ratio = moved[name] / value.detach() - 1
            assert ratio.abs().max() < 6e-3
        ratios = torch.cat([(moved[k] / v.detach() - 1).flatten() for k, v in tiny.model.named_parameters()])
        assert ratios.std() == pytest.approx(1e-3, rel=0.1)
        assert ratios.mean().abs() < 2e-4


class TestOrder:
    def test_execution_and_not_definition(self):
        names = weights.layers_from_top(seeded(1, Attentive), EXAMPLE)
        assert [n for n in names if n in ("head", "norm", "embed")] == ["head", "norm", "embed"]
        assert names.index("norm") < names.index("attention.out_proj") < names.index("embed")
        assert names.index("norm") < names.index("attention") < names.index("embed")
        assert sorted(names) == sorted(["", "head", "norm", "embed", "attention", "attention.out_proj"])

    def test_a_plain_network(self, tiny):
        assert weights.layers_from_top(tiny.model, tiny.inputs[:1]) == [
            "head",
            "features.norm2",
            "features.conv2",
            "features.norm1",
            "features.conv1",
        ]

    @pytest.mark.parametrize("norm", [nn.BatchNorm2d(4, affine=False), nn.InstanceNorm2d(4, track_running_stats=True)])
    def test_statistics_without_parameters_are_a_layer_too(self, norm):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(320, 2))
        norm.running_mean += 3
        norm.running_var *= 9
        assert weights.layers_from_top(model, EXAMPLE) == ["4", "1", "0"]
        fresh = all_reset(model, EXAMPLE)
        assert torch.equal(fresh["1.running_mean"], torch.zeros(4))
        assert torch.equal(fresh["1.running_var"], torch.ones(4))

    def test_norms_that_keep_nothing_are_none(self):
        model = nn.Sequential(
            nn.BatchNorm2d(3, affine=False, track_running_stats=False), nn.Flatten(), nn.Linear(360, 2)
        )
        assert weights.layers_from_top(model, EXAMPLE) == ["2"]

    def test_a_layer_that_runs_twice_counts_where_it_ran_last(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.last = nn.Linear(4, 2)
                self.c = nn.Linear(4, 4)
                self.a = nn.Linear(4, 4)
                self.b = nn.Linear(4, 4)

            def forward(self, x):
                x = self.a(self.b(self.a(x.flatten(1))))
                return self.last(self.c(x))

        assert weights.layers_from_top(Twice(), torch.rand(1, 1, 2, 2)) == ["last", "c", "a", "b"]

    def test_the_model_is_left_alone(self, tiny):
        tiny.model.train()
        with untouched(tiny.model, tiny.inputs):
            weights.layers_from_top(tiny.model, tiny.inputs[:1])
