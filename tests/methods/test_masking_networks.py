"""Methods whose map a masking network makes: the network against slow references, and what it is given to read."""

import copy

import pytest
import torch
from homes import masking
from reference import maskers as reference
from reference.masking import enlarged as enlarged_exactly
from small_models import Tiny, every_batch_and_order, lively, seeded, tiny_subject, transformer, untouched
from torch import nn

from cardgen import explain
from cardgen.api import make_subject
from cardgen.errors import CardgenError
from cardgen.maskers import KINDS, ParallelMasker, SelectiveUNet, build, mask, ratio
from cardgen.methods import METHODS, Context
from cardgen.pyramid import features_and_logits
from cardgen.subjects.black_box import BlackBox
from cardgen.weights import changed, reset

KEYS = tuple(KINDS)
ABSENT = (
    "needs a masking network trained for this model; expected a {}, got {}; run `cardgen run` with train_data: in cardgen.yaml, which "
    "trains one, or name one under siblings: there"
)


def run(key, small, masker, **options):
    return explain(key, *small.call, masker=masker, **options)


def read(small, masker, i):
    """The feature maps of one image, each [k, u, v]."""
    features, _ = features_and_logits(small.model, small.inputs[i : i + 1], masker.layers)
    return [maps[0] for maps in features]


def expected(key, small, masker, i, target=None, state=None, **changes):
    target = int(small.targets[i]) if target is None else target
    state, features = {**masker.state_dict(), **(state or {})}, read(small, masker, i)
    if key == "phang_masker":
        return reference.parallel(state, features, 12, 10)
    return reference.selective(state, features, target, 12, 10, **changes)


@pytest.mark.parametrize("key", KEYS)
class TestBoth:
    def test_agrees_with_the_reference(self, key, tiny):
        masker = masking(key, tiny)
        found = run(key, tiny, masker)
        for i in (0, 3):
            torch.testing.assert_close(found[i].double(), expected(key, tiny, masker, i), rtol=1e-4, atol=1e-5)

    def test_a_wrong_reference_would_be_seen(self, key, tiny):
        masker = masking(key, tiny)
        found, state = run(key, tiny, masker)[3], masker.state_dict()
        block = {"real_time_saliency": "joins.0", "phang_masker": "reduce.1"}[key]
        convolution = {"real_time_saliency": "joins.0.0.weight", "phang_masker": "head.weight"}[key]
        for wrong in (
            {convolution: state[convolution].flip(2)},
            {f"{block}.1.running_mean": -state[f"{block}.1.running_mean"]},
            {f"{block}.1.running_var": state[f"{block}.1.running_var"].square()},
            {"head.bias": -state["head.bias"]},
        ):
            assert (found - expected(key, tiny, masker, 3, state=wrong)).abs().max() > 2e-3

    def test_it_is_a_mask(self, key, tiny):
        found = run(key, tiny, masking(key, tiny))
        assert found.min() >= 0
        assert found.max() <= 1
        assert (found.flatten(1).std(dim=1) > 0.01).all()

    def test_any_batch_and_order_even_if_the_network_is_left_in_training_mode(self, key, tiny):
        masker = masking(key, tiny).train()
        every_batch_and_order(
            lambda rows, batch: run(key, tiny.take(rows), masker, batch=batch).numpy(), tolerance=1e-5
        )
        assert masker.training

    def test_nothing_is_touched(self, key, tiny):
        masker = masking(key, tiny).train()
        tiny.model.train()
        with untouched(tiny.model, tiny.inputs, tiny.targets), untouched(masker):
            run(key, tiny, masker)

    def test_feature_maps_are_those_of_the_model_as_it_is_at_hand(self, key, tiny):
        masker = masking(key, tiny)
        before = run(key, tiny, masker)
        other = copy.deepcopy(tiny.model)
        fresh = reset(other, "features.conv2", 0, 0)
        with changed(tiny.model, fresh):
            found = run(key, tiny, masker)
        other.load_state_dict({**other.state_dict(), **fresh})
        assert torch.equal(found, run(key, tiny._replace(model=other), masker))
        assert ((found - before).abs().flatten(1).amax(1) > 0.005).all()
        assert torch.equal(run(key, tiny, masker), before)

    def test_the_head_has_no_part_in_it(self, key, tiny):
        masker = masking(key, tiny)
        before = run(key, tiny, masker)
        with changed(tiny.model, reset(tiny.model, "head", 0, 0)):
            assert torch.equal(run(key, tiny, masker), before)

    def test_the_layer_of_class_activation_has_no_part_in_it(self, key, tiny):
        masker = masking(key, tiny)
        assert torch.equal(run(key, tiny, masker, layer="features.relu1"), run(key, tiny, masker))

    def test_another_network_gives_another_map(self, key, tiny):
        other = lively(seeded(1, lambda: build(key, tiny.model, tiny.inputs[:1], 4)))
        assert not torch.allclose(run(key, tiny, masking(key, tiny)), run(key, tiny, other), atol=0.02)

    def test_the_context_of_a_chunk_holds_the_network(self, key, tiny):
        masker = masking(key, tiny)
        context = Context(("a", "b"), masker=masker).part(slice(1, 2))
        assert context.ids == ("b",)
        assert METHODS[key].function(tiny.model, tiny.inputs[:1], tiny.targets[:1], context).shape == (1, 1, 12, 10)

    def test_new_weights_come_from_torchs_generator(self, key, tiny):
        make = lambda: build(key, tiny.model, tiny.inputs[:1], 4)  # noqa: E731
        weights = [nn.utils.parameters_to_vector(seeded(seed, make).parameters()) for seed in (0, 0, 1)]
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])

    def test_one_layer_is_enough(self, key):
        model = seeded(
            0, lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        )
        small = tiny_subject()._replace(model=model.eval(), targets=torch.zeros(7, dtype=torch.int64))
        masker = masking(key, small)
        assert masker.layers == ("0",)
        found = run(key, small, masker)
        torch.testing.assert_close(found[2].double(), expected(key, small, masker, 2), rtol=1e-4, atol=1e-5)


class TestSelective:
    KEY = "real_time_saliency"

    @pytest.mark.parametrize(
        "changes",
        [
            {"filtering": lambda maps, vector: maps},
            {"filtering": lambda maps, vector: reference.filtered(maps, -vector)},
            {"last": lambda pair: reference.ratio(pair.flip(0))},
            {"last": lambda pair: reference.ratio(pair.clamp(min=0))},
            {"target": 3},
        ],
        ids=["no filter", "sign of the filter", "the other channel", "no absolute value", "another class"],
    )
    def test_a_wrong_reference_would_be_seen(self, tiny, changes):
        masker = masking(self.KEY, tiny)
        assert int(tiny.targets[2]) == 2
        wrong = expected(self.KEY, tiny, masker, 2, **changes)
        assert (run(self.KEY, tiny, masker)[2] - wrong).abs().max() > 0.01

    def test_the_ratio_by_hand(self):
        pair = torch.tensor([[3.0, -1.0, 0.0, -2.0, 0.0], [1.0, 3.0, 5.0, 0.0, 0.0]])[None, :, None]
        assert ratio(pair).flatten().tolist() == [0.75, 0.25, 0.0, 1.0, 0.0]

    def test_the_ratio_of_half_precision_and_large_numbers(self):
        assert ratio(torch.full((1, 2, 1, 1), 3e4)).item() == 0.5

    def test_places_that_speak_against_the_class_are_not_read(self, tiny):
        masker = masking(self.KEY, tiny)
        masker.selector.weight.data[1] = -1e6  # the features are not negative, as they come from a ReLU
        shallow, deep = features_and_logits(tiny.model, tiny.inputs, masker.layers)[0]
        assert (deep.sum(1) > 0).any()
        ones = torch.ones(7, dtype=torch.int64)
        with torch.no_grad():
            nothing = torch.where(deep.sum(1, keepdim=True) > 0, torch.zeros_like(deep), deep)
            assert torch.equal(masker([shallow, deep], ones, (12, 10)), masker([shallow, nothing], ones, (12, 10)))

    def test_evidence_by_hand(self):
        masker = SelectiveUNet(["a"], [2], 2)
        masker.selector.weight.data = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
        features = [torch.tensor([[[[1.0, 0.0]], [[3.0, 4.0]]]]).expand(2, -1, -1, -1)]
        assert masker.evidence(features, torch.tensor([0, 1])).flatten(1).tolist() == [[7.0, 8.0], [-3.0, -4.0]]

    def test_the_masks_gradient_does_not_reach_the_class_vectors(self, tiny):
        masker = masking(self.KEY, tiny)
        features, _ = features_and_logits(tiny.model, tiny.inputs, masker.layers)
        masker(features, tiny.targets, (12, 10)).sum().backward()
        assert masker.selector.weight.grad is None
        assert all(p.grad is not None for name, p in masker.named_parameters() if name != "selector.weight")

    def test_size(self, tiny):
        masker = masking(self.KEY, tiny)
        features, _ = features_and_logits(tiny.model, tiny.inputs, masker.layers)
        small = masker(features, tiny.targets, (12, 10))  # the shallowest layer has the image's size
        with torch.no_grad():
            large = masker(features, tiny.targets, (24, 30))[0, 0]
        wanted = enlarged_exactly(small[0, 0].double().detach(), 24, 30)
        torch.testing.assert_close(large.double(), wanted, rtol=1e-4, atol=1e-6)


class TestParallel:
    KEY = "phang_masker"

    def test_one_map_for_all_classes(self, tiny):
        masker = masking(self.KEY, tiny)
        other = tiny._replace(targets=(tiny.targets + 1) % 4)
        assert torch.equal(run(self.KEY, tiny, masker), run(self.KEY, other, masker))

    def test_by_hand(self):
        # 64 channels of value 1, 2, …: with all weights of the last convolution 0 and a bias of log 3, σ is ¾ everywhere
        masker = ParallelMasker(["a", "b"], [1, 2], 4).eval()
        masker.head.weight.data.zero_()
        masker.head.bias.data.fill_(3.0).log_()
        features = [torch.rand(2, 1, 4, 4), torch.rand(2, 2, 2, 2)]
        found = masker(features, torch.tensor([0, 1]), (16, 16))
        torch.testing.assert_close(found, torch.full((2, 1, 16, 16), 0.75))

    @pytest.mark.parametrize(("shallow", "size", "fine"), [(4, (64, 64), (16, 16)), (32, (64, 64), (32, 32))])
    def test_layers_meet_at_a_quarter_of_the_image_or_at_the_shallower_ones_size(self, shallow, size, fine):
        masker, seen = ParallelMasker(["a", "b"], [1, 1], 4), []
        masker.head.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[2:])))
        masker([torch.rand(2, 1, shallow, shallow), torch.rand(2, 1, 2, 2)], torch.tensor([0, 1]), size)
        assert seen == [fine]


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("key", KEYS)
class TestRefusals:
    def refused(self, key, small, masker, words):
        with pytest.raises(CardgenError) as caught:
            run(key, small, masker)
        assert words in str(caught.value)

    def test_no_network(self, key, tiny):
        with pytest.raises(CardgenError) as caught:
            run(key, tiny, None)
        assert str(caught.value) == ABSENT.format(KINDS[key].__name__, "none")

    def test_the_other_methods_network(self, key, tiny):
        (other,) = set(KEYS) - {key}
        with pytest.raises(CardgenError) as caught:
            run(key, tiny, masking(other, tiny))
        assert str(caught.value) == ABSENT.format(KINDS[key].__name__, KINDS[other].__name__)

    def test_a_black_box(self, key, tiny):
        boxed = tiny._replace(model=BlackBox(tiny.model))
        self.refused(key, boxed, masking(key, tiny), "the model is a black box that gives only outputs")

    def test_models_without_convolutional_features(self, key, tiny):
        flat = seeded(0, lambda: nn.Sequential(nn.Flatten(), nn.Linear(360, 4)))
        self.refused(key, tiny._replace(model=flat), masking(key, tiny), "executes no Conv2d")
        tokens = tiny._replace(model=transformer(), inputs=torch.rand(7, 3, 16, 16))
        self.refused(key, tokens, masking(key, tiny), "goes on with layers on tokens")

    def test_layers_of_another_model(self, key, tiny):
        other = nn.Sequential(tiny.model)
        self.refused(key, tiny._replace(model=other), masking(key, tiny), "the model has no layer 'features.relu1'")

    def test_other_channels(self, key, tiny):
        model = seeded(0, Tiny).eval()
        model.features.conv2, model.features.norm2 = nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6).eval()
        model.head = nn.Linear(180, 4)
        with pytest.raises(CardgenError) as caught:
            run(key, tiny._replace(model=model), masking(key, tiny))
        assert str(caught.value) == (
            "the masking network was trained for a model with 4, 5 feature maps and 4 classes; this one has 4, 6 feature maps and 4 "
            "classes; train one for this model"
        )

    def test_other_classes(self, key, tiny):
        more = tiny._replace(model=seeded(0, lambda: Tiny(classes=6)).eval())
        self.refused(key, more, masking(key, tiny), "feature maps and 4 classes; this one has 4, 5 feature maps and 6")

    def test_a_class_that_the_model_does_not_have(self, key, tiny):
        masker = masking(key, tiny)
        with pytest.raises(CardgenError, match="targets reach from 4 to 4; expected classes 0 to 3"):
            mask(masker, tiny.model, tiny.inputs, torch.full((7,), 4))


@pytest.mark.usefixtures("as_users_run")
def test_methods_that_have_no_network(tiny):
    with pytest.raises(CardgenError) as caught:
        build("rise", tiny.model, tiny.inputs, 4)
    assert str(caught.value) == (
        "masking network; expected one of real_time_saliency, phang_masker, got rise; choose one of these"
    )


def test_other_methods_do_not_mind_a_network(tiny):
    masker = masking("phang_masker", tiny)
    assert torch.equal(explain("grad_cam", *tiny.call, masker=masker), explain("grad_cam", *tiny.call))


def test_a_subject_holds_none_by_itself(tiny):
    subject = make_subject(*tiny.call, None, None, 0, 4, None)
    assert subject.context(slice(0, 2), 0, METHODS["phang_masker"]).masker is None
