"""Superpixels: enough of them on any image, from the image alone, and cut once."""

import pytest
import torch

from cardgen import segments
from cardgen.errors import CardgenError
from cardgen.segments import counts, cuts, hiding, painted, superpixels
from cardgen.space import UNNORMALISED, Space


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 64, 64), (5, 64, 64), (3, 64, 48)])
def test_about_as_many_as_asked_for_even_on_noise(shape):
    for wanted in (25, 50, 100):
        (found,) = counts(superpixels(noise(1, *shape), UNNORMALISED, wanted))
        assert 0.7 * wanted <= found <= 1.3 * wanted


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 5), (2, 2, 3), (1, 17, 9)])
def test_small_images_are_cut_too(shape):
    labels = superpixels(noise(2, *shape), UNNORMALISED, 50)
    assert labels.shape == (2, *shape[1:])
    for one in labels:
        assert one.unique().tolist() == list(range(int(one.max()) + 1))


def test_they_follow_colours():
    image = torch.zeros(1, 3, 64, 64)
    image[..., 27:] = 1
    (labels,) = superpixels(image, UNNORMALISED, 16)
    for segment in range(int(labels.max()) + 1):
        assert len(image[0, 0][labels == segment].unique()) == 1


def test_the_same_in_normalised_inputs():
    mean, std = torch.tensor([0.5, 0.25, 0.5])[:, None, None], torch.tensor([0.25, 0.5, 0.5])[:, None, None]
    images = (noise(2, 3, 32, 32) * 255).round() / 256  # so that normalising and back is exact
    space = Space.normalised(mean.flatten().tolist(), std.flatten().tolist())
    assert torch.equal(superpixels((images - mean) / std, space, 20), superpixels(images, UNNORMALISED, 20))


def test_cut_once_an_image_and_setting(monkeypatch):
    seen = []
    honest = segments.slic
    monkeypatch.setattr(
        segments, "slic", lambda picture, *rest, **options: seen.append(1) or honest(picture, *rest, **options)
    )
    images = noise(3, 3, 16, 16, seed=77)
    for chosen, calls in ((images, 3), (images[[2, 0]], 3), (images + 1e-3, 6)):
        superpixels(chosen, UNNORMALISED, 9)
        assert len(seen) == calls
    superpixels(images, UNNORMALISED, 10)
    assert len(seen) == 9


def test_values_outside_the_space_count_as_its_ends():
    seen = []
    cut = lambda picture: seen.append((picture.min(), picture.max())) or picture[..., 0]  # noqa: E731
    cuts(torch.tensor([[[[-0.5, 1.5]]]]), UNNORMALISED, ("ends",), cut)
    assert seen == [(0, 1)]


def test_hiding_and_painting_by_hand():
    labels = torch.tensor([[[0, 1], [1, 2]]])
    inputs, hidden = torch.full((1, 1, 2, 2), 5.0), torch.zeros(1, 1, 2, 2)
    out = torch.empty(2, 1, 2, 2)
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    hiding(inputs, hidden, labels, [present])(0, 1, 3, out)
    assert out[:, 0].tolist() == [[[5, 0], [0, 5]], [[0, 5], [5, 0]]]
    assert painted([torch.tensor([1.0, -2.0, 3.0])], labels).tolist() == [[[[1, -2], [-2, 3]]]]


@pytest.mark.usefixtures("as_users_run")
def test_none_is_refused():
    with pytest.raises(CardgenError, match=r"^segments is 0; expected at least 1 superpixel; choose more$"):
        superpixels(noise(1, 3, 8, 8), UNNORMALISED, 0)
