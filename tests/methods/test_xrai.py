"""XRAI against its slow reference, by hand, and its segments against scikit-image at the authors' settings."""

import numpy as np
import pytest
import torch
from reference import superpixels as reference
from skimage.data import astronaut
from skimage.segmentation import felzenszwalb
from skimage.transform import resize
from small_models import Linear, Small, Tiny, lively, seeded
from torch.nn import functional as F

from cardgen import explain
from cardgen.methods.xrai import label_maps, ranked
from cardgen.space import UNNORMALISED, Space

KEY = "xrai"


@pytest.fixture(scope="module")
def subject():
    """Images of nine patches, 24 × 23 pixels, about the smallest whose segments are dilated."""
    draws = torch.Generator().manual_seed(3)
    inputs = F.interpolate(torch.rand(2, 3, 3, 3, generator=draws), (24, 23))
    rest = torch.ones(2, 24, 23)
    return Small(lively(seeded(0, lambda: Tiny(height=24, width=23))), inputs, torch.tensor([0, 1]), rest.bool(), rest)


def expected(small, radius=1, shift=0):
    scales = label_maps(small.inputs[:1], UNNORMALISED)[0]
    return reference.xrai(small.model, small.inputs[0], int(small.targets[0]) + shift, scales, radius, 1, 6)


def test_agrees_with_the_reference(subject):
    found, wanted = explain(KEY, *subject.call, steps=6)[0], expected(subject)
    assert len(wanted.unique()) > 20
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-6)


MUTATIONS = {
    "undilated": ({"radius": 0}, None),
    "of another class": ({"shift": 1}, None),
    "by the sum": ({}, ("greedy", lambda attribution, *rest: by_sum(attribution, *rest))),
    "black alone": ({}, ("baselines", lambda image: [0.0 * image.min()] * 2)),
    "the mean over channels": ({}, ("over_channels", lambda total: total.mean(0))),
}


def by_sum(attribution, candidates, least):
    """Regions added by the sum of what they bring."""
    return honest(attribution, sorted(candidates, key=lambda region: -sum(attribution[p] for p in region))[:1], least)


honest = reference.greedy


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(subject, name, monkeypatch):
    options, change = MUTATIONS[name]
    if change:
        monkeypatch.setattr(reference, *change)
    difference = (explain(KEY, *subject.call, steps=6)[0] - expected(subject, **options)).abs()
    assert difference.max() > 1e-3


def test_two_halves_by_hand():
    # Left 0, right 1, s_0 = 2 Σ_left x + 4 Σ_right x. From black: left 0, right 4. From white: left −2, right 0. On average −1 and 2,
    # and as some regions lie within a half altogether, its pixels come with no others.
    image, weights = torch.zeros(1, 1, 64, 64), torch.full((1, 64, 64), 2.0)
    image[..., 32:], weights[..., 32:] = 1, 4
    found = explain(KEY, Linear(weights), image, torch.tensor([0]), steps=2)
    wanted = torch.where(image[:, 0] > 0, 2.0, -1.0)
    torch.testing.assert_close(found, wanted)


def rank(values, regions, least=1):
    members = [[p in region for p in range(len(values))] for region in regions]
    return ranked(torch.tensor(values, dtype=torch.float64), torch.tensor(members), least).tolist()


def test_two_regions_by_hand():
    # {0, 1} has mean 2.5 and comes first; of {1, 2, 3} pixels 2 and 3 are left, with mean 0.5
    assert rank([4, 1, 1, 0], [{1, 2, 3}, {0, 1}]) == [2.5, 2.5, 0.5, 0.5]
    # regions that bring fewer than three do not count: {0, 1} never, so that pixel 0 is left over
    assert rank([4, 1, 1, 1], [{1, 2, 3}, {0, 1}], least=3) == [4, 1, 1, 1]
    # what is left of a region can be denser than the one before it
    assert rank([5, 0, 3], [{0, 1}, {1, 2}]) == [2.5, 2.5, 3]
    # and two left over share their mean
    assert rank([1, 0, 4, 8], [{0, 1}]) == [0.5, 0.5, 6, 6]


def test_a_map_sums_to_its_attributions():
    values = torch.randn(552, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    regions = torch.rand(40, 552, generator=torch.Generator().manual_seed(1)) < 0.02
    torch.testing.assert_close(ranked(values, regions, 3).sum(), values.sum())


def test_segments_are_the_authors_on_images_of_their_size():
    picture = resize(astronaut(), (224, 224), anti_aliasing=True)
    image = torch.from_numpy(picture).float().permute(2, 0, 1)[None]
    found = label_maps(image, UNNORMALISED)[0, -1].numpy()
    seen = image[0].permute(1, 2, 0).double().numpy()
    stretched = (seen - seen.min()) / (seen.max() - seen.min()) * 2 - 1
    wanted = felzenszwalb(stretched, scale=1200, sigma=0.8, min_size=150)
    assert np.array_equal(found, wanted)


def test_normalised_inputs_have_grey_baselines(subject):
    """The same model on the same images, normalised channel by channel, gives the same map."""
    mean, std = torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.2, 0.3, 0.25])[:, None, None]

    class Normalised(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x * std + mean)

    wanted = explain(KEY, *subject.call, steps=6)
    space = Space.normalised(mean.flatten().tolist(), std.flatten().tolist())
    normalised = (subject.inputs - mean) / std
    found = explain(KEY, Normalised(subject.model), normalised, subject.targets, space=space, steps=6)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
