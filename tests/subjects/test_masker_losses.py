"""What masking networks are trained to, against slow references, on models whose answers are known, and at the limits."""

import math

import pytest
import torch
from reference import maskers as reference
from small_models import Share, lively, seeded, tiny_subject, untouched
from torch import nn

from cardgen.errors import CardgenError
from cardgen.forward import all_logits
from cardgen.maskers import SelectiveUNet, build, mask
from cardgen.space import Space
from cardgen.subjects.masker_losses import backgrounds, in_proportion, phang_loss, real_time_loss
from cardgen.subjects.masker_training import another, masker_loss, selection_loss

KEYS = ("real_time_saliency", "phang_masker")
SPACE = Space((-1.0,), (2.0,), (0.5,))


def masks_of(count, height=12, width=10, seed=0):
    return torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(seed))


def own_classes(small):
    """The same with the classes that the model gives, but for the last three images."""
    given = all_logits(small.model, small.inputs, 4).argmax(1)
    given[-3:] = (given[-3:] + 1) % 4
    return small._replace(targets=given)


class TestRealTime:
    def found(self, small, masks, hidden, fake):
        return real_time_loss(small.model, small.inputs, hidden, masks, small.targets, fake)

    def wanted(self, small, masks, hidden, fake, i, **weights):
        asked = small.model, small.inputs[i], hidden[i], masks[i, 0], int(small.targets[i])
        return reference.real_time_loss(*asked, fake=bool(fake[i]), **weights)

    def case(self):
        small = tiny_subject()
        return small, masks_of(7), torch.rand(7, 3, 12, 10), torch.tensor([False, True] * 3 + [False])

    def test_agrees_with_the_reference(self):
        small, masks, hidden, fake = self.case()
        found = self.found(small, masks, hidden, fake)
        for i in range(7):
            assert found[i].item() == pytest.approx(self.wanted(small, masks, hidden, fake, i), rel=1e-4)

    @pytest.mark.parametrize("weights", [{"tv": 0.0}, {"area": 7.9}, {"removed": 4.9}, {"power": 1.0}])
    def test_a_wrong_reference_would_be_seen(self, weights):
        small, masks, hidden, fake = self.case()
        found = self.found(small, masks, hidden, fake)
        apart = [abs(found[i].item() - self.wanted(small, masks, hidden, fake, i, **weights)) for i in range(7)]
        assert max(apart) > 3e-3

    def test_fake_and_true_classes_differ(self):
        small, masks, hidden, fake = self.case()
        assert not torch.isclose(self.found(small, masks, hidden, fake), self.found(small, masks, hidden, ~fake)).any()

    def model(self):
        """f_0 is the image's mean; images of 0.8 behind which 0.2 is hidden."""
        model = Share(torch.full((1, 4, 4), 1 / 16))
        return model, torch.full((2, 1, 4, 4), 0.8), torch.full((2, 1, 4, 4), 0.2), torch.tensor([0, 0])

    def test_masks_of_ones_and_zeros_by_hand(self):
        model, inputs, hidden, labels = self.model()
        masks = torch.stack([torch.ones(1, 4, 4), torch.zeros(1, 4, 4)])
        found = real_time_loss(model, inputs, hidden, masks, labels, torch.tensor([False, False]))
        assert found.tolist() == pytest.approx(
            [8 - math.log(0.8) + 5 * 0.2**0.3, -math.log(0.2) + 5 * 0.8**0.3], rel=1e-5
        )
        found = real_time_loss(model, inputs, hidden, masks, labels, torch.tensor([True, True]))
        assert found.tolist() == pytest.approx(
            [8 - math.log(0.2) + 5 * 0.8**0.3, -math.log(0.8) + 5 * 0.2**0.3], rel=1e-5
        )

    def test_one_pixel_by_hand(self):
        # it touches four neighbours; with it f_0 = 0.2 + 0.6 / 16, without it 0.8 − 0.6 / 16
        model, inputs, hidden, labels = self.model()
        masks = torch.zeros(2, 1, 4, 4)
        masks[:, 0, 1, 2] = 1
        (found, _) = real_time_loss(model, inputs, hidden, masks, labels, torch.tensor([False, False]))
        assert found.item() == pytest.approx(4e-3 + 8 / 16 - math.log(0.2375) + 5 * 0.7625**0.3, rel=1e-5)

    def test_finite_slopes_where_nothing_is_left_of_the_class(self):
        model = Share(torch.full((1, 4, 4), 1 / 16))
        masks = torch.ones(1, 1, 4, 4, requires_grad=True)
        images = torch.ones(1, 1, 4, 4)
        loss = real_time_loss(model, images, 0 * images, masks, torch.tensor([0]), torch.tensor([False]))
        (slope,) = torch.autograd.grad(loss.sum(), masks)
        assert slope.isfinite().all()


class TestPhang:
    def found(self, small, masks, hidden):
        clean = all_logits(small.model, small.inputs, 4)
        return phang_loss(small.model, small.inputs, hidden, masks, small.targets, clean)

    def wanted(self, small, masks, hidden, i, **weights):
        return reference.phang_loss(
            small.model, small.inputs[i], hidden[i], masks[i, 0], int(small.targets[i]), **weights
        )

    def case(self):
        """Masks that do their work, in and out, and masks that do not, of images that the model gets right and that it does not."""
        small = own_classes(tiny_subject())
        masks = masks_of(7)
        masks[::2] = masks[::2].lerp(torch.ones(1), 0.9)
        return small, masks, -3 * torch.rand(7, 3, 12, 10, generator=torch.Generator().manual_seed(2))

    def test_agrees_with_the_reference(self):
        small, masks, hidden = self.case()
        found = self.found(small, masks, hidden)
        for i in range(7):
            assert found[i].item() == pytest.approx(self.wanted(small, masks, hidden, i), rel=1e-4)

    @pytest.mark.parametrize("weights", [{"size_in": 0.9}, {"size_out": 9.0}, {"tv": 0.0}])
    def test_a_wrong_reference_would_be_seen(self, weights):
        small, masks, hidden = self.case()
        found = self.found(small, masks, hidden)
        apart = [abs(found[i].item() - self.wanted(small, masks, hidden, i, **weights)) for i in range(7)]
        assert max(apart) > 3e-3

    def test_masks_of_ones_and_zeros_by_hand(self):
        # f_0 is 0.8 of the image, 0.2 of what is hidden behind: under a mask of ones the label is there, and gone without it;
        # such a mask is not small, so it gains nothing; a mask of zeros keeps 0.2, leaves 0.8, and is small in vain
        model = Share(torch.full((1, 4, 4), 1 / 16))
        images, hidden = torch.full((2, 1, 4, 4), 0.8), torch.full((2, 1, 4, 4), 0.2)
        masks = torch.stack([torch.ones(1, 4, 4), torch.zeros(1, 4, 4)])
        entropy = -0.8 * math.log(0.8) - 0.2 * math.log(0.2)
        found = phang_loss(model, images, hidden, masks, torch.tensor([0, 0]), all_logits(model, images, 2))
        assert found.tolist() == pytest.approx([-math.log(0.8) - entropy, -math.log(0.2) - entropy], rel=1e-4)
        # for the other class the model is wrong about the image, and right about what is hidden behind
        found = phang_loss(model, images, hidden, masks, torch.tensor([1, 1]), all_logits(model, images, 2))
        assert found.tolist() == pytest.approx([-math.log(0.2), -math.log(0.8) - 1], rel=1e-4)

    def test_a_mask_that_does_its_work_is_paid_by_how_small_it_is(self):
        # only the first of four pixels counts: f_0 = 0.9 of it; a mask of that pixel alone is a quarter of the image
        model = Share(torch.tensor([[[0.9, 0.0], [0.0, 0.0]]]))
        masks = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
        images = torch.ones(1, 1, 2, 2)
        found = phang_loss(model, images, 0 * images, masks, torch.tensor([0]), all_logits(model, images, 1))
        assert found.item() == pytest.approx(2e-3 - math.log(0.9) - 0.75 - 7.5, abs=1e-4)


class TestBackgrounds:
    def test_a_blur_as_often_as_a_colour_with_noise(self):
        images = torch.rand(400, 3, 16, 16) * 3 - 1
        found = seeded(0, lambda: backgrounds(images, SPACE))
        blurred = (found == in_proportion(images)).flatten(1).all(1)
        assert 160 < int(blurred.sum()) < 240
        colours = found[~blurred]
        assert (colours.std((2, 3)) - 0.055 * 3).abs().max() < 0.05
        middle = colours.mean((2, 3))
        assert -0.05 < middle.min() < 0.1  # the middle third of −1 … 2 is 0 … 1
        assert 0.9 < middle.max() < 1.05
        assert (middle[:, 0] - middle[:, 1]).abs().max() > 0.5

    def test_the_draws_are_those_of_torchs_generator(self):
        images = torch.rand(4, 3, 16, 16)
        made = [seeded(seed, lambda: backgrounds(images, SPACE)) for seed in (0, 0, 1)]
        assert torch.equal(made[0], made[1])
        assert not torch.equal(made[0], made[2])

    def test_the_blur_grows_with_the_image(self):
        # the deviation is 11/224 of the side: at 112 pixels 5.5, cut at 14 pixels
        point = torch.zeros(1, 1, 112, 112)
        point[0, 0, 56, 56] = 1
        found = in_proportion(point)[0, 0, 56]
        assert found[56 + 14] > 0 == found[56 + 15]
        assert (found[61] / found[56]).item() == pytest.approx(math.exp(-25 / (2 * 5.5**2)), rel=1e-4)

    @pytest.mark.parametrize("side", [2, 9, 31])
    def test_small_images(self, side):
        torch.testing.assert_close(in_proportion(torch.ones(1, 3, side, side)), torch.ones(1, 3, side, side))


class TestAnother:
    def test_every_other_class_and_never_the_same(self):
        labels = torch.arange(4).repeat_interleave(500)
        found = seeded(0, lambda: another(labels, 4))
        counts = torch.stack([torch.bincount(found[labels == k], minlength=4) for k in range(4)])
        assert torch.equal(counts.diagonal(), torch.zeros(4, dtype=torch.int64))
        assert (counts + 500 * torch.eye(4, dtype=torch.int64)).min() > 120

    def test_one_class(self):
        assert another(torch.zeros(3, dtype=torch.int64), 1).tolist() == [0, 0, 0]


@pytest.mark.parametrize("key", KEYS)
class TestLoss:
    def masker(self, key, small):
        return lively(seeded(0, lambda: build(key, small.model, small.inputs[:1], 4)))

    def value(self, key, small, seed=0, space=SPACE):
        return seeded(
            seed, lambda: masker_loss(key, small.model, space)(self.masker(key, small), small.inputs, small.targets)
        )

    def test_only_the_masking_network_is_moved(self, key):
        small = tiny_subject()
        masker = self.masker(key, small)
        small.model.train()
        with untouched(small.model, small.inputs, small.targets):
            loss = masker_loss(key, small.model, SPACE)
            seeded(0, lambda: loss(masker, small.inputs, small.targets).backward())
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in masker.parameters())

    def test_the_draws_are_those_of_torchs_generator(self, key):
        small = tiny_subject()
        assert torch.equal(self.value(key, small), self.value(key, small))
        same = torch.equal(self.value(key, small), self.value(key, small, seed=1))
        assert same == (key == "phang_masker")  # which draws nothing

    def test_the_mode_of_the_classifier_has_no_part_in_it(self, key):
        small = tiny_subject()
        wanted = self.value(key, small)
        small.model.train()
        assert torch.equal(self.value(key, small), wanted)

    def test_what_is_hidden_lies_in_the_space(self, key):
        small = tiny_subject()
        assert not torch.equal(self.value(key, small), self.value(key, small, space=Space((-9.0,), (9.0,), (3.0,))))

    def test_one_class_is_enough_to_run(self, key):
        model = seeded(0, lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(320, 1))).eval()
        small = tiny_subject()._replace(model=model, targets=torch.zeros(7, dtype=torch.int64))
        masker = seeded(0, lambda: build(key, model, small.inputs[:1], 1))
        assert masker_loss(key, model, SPACE)(masker, small.inputs, small.targets).isfinite()


def test_the_loss_of_phang_is_the_mean_over_the_images_hidden_behind_the_mean_colour():
    small = own_classes(tiny_subject())
    masker = lively(seeded(0, lambda: build("phang_masker", small.model, small.inputs[:1], 4)))
    found = masker_loss("phang_masker", small.model, SPACE)(masker, small.inputs, small.targets)
    masks, hidden = mask(masker, small.model, small.inputs, small.targets), torch.full_like(small.inputs, 0.5)
    wanted = [TestPhang().wanted(small, masks, hidden, i) for i in range(7)]
    assert found.item() == pytest.approx(sum(wanted) / 7, rel=1e-4)


def test_the_class_vectors_learn_whether_the_class_is_there():
    # two classes: the other one of a label is known. logits at 2 places (1, 3) and (−1, −1): means 2 and −1
    masker = SelectiveUNet(["a"], [2], 2)
    masker.selector.weight.data = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    features = [torch.tensor([[[[1.0, 3.0]], [[1.0, 1.0]]]])]
    found = selection_loss(masker, features, torch.tensor([0]), torch.tensor([1]))
    assert found.tolist() == pytest.approx([(math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2])


@pytest.mark.usefixtures("as_users_run")
def test_methods_that_have_no_network():
    with pytest.raises(CardgenError) as caught:
        masker_loss("rise", nn.Identity(), SPACE)
    assert str(caught.value) == (
        "masking network; expected one of real_time_saliency, phang_masker, got rise; choose one of these"
    )
