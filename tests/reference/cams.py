"""Class activation from the papers' formulas, one image at a time in float64, pixel by pixel.

`features` and `rest` are the two halves of one float64 network in evaluation mode, cut at the feature maps.
"""

import itertools
import math

import numpy as np
import torch

from reference import methods, network


def upsampled(small, height, width):
    """Bilinear, without aligned corners."""
    return methods.upsampled(small, height, width)


def positive(value):
    """max(v, 0), of a number or of each entry."""
    return value.clamp(min=0) if isinstance(value, torch.Tensor) else max(value, 0)


def pixels(maps):
    """All (i, j) of feature maps."""
    return list(itertools.product(range(maps.shape[1]), range(maps.shape[2])))


def features_of(features, image):
    """A^k."""
    with torch.no_grad():
        return features(image.double()[None])[0]


def gradients_of(rest, maps, target):
    """∂s_c/∂A^k."""
    leaf = maps.clone().requires_grad_()
    return torch.autograd.grad(rest(leaf[None])[0, target], leaf)[0]


def score_of(rest, maps, target):
    """s_c for feature maps."""
    with torch.no_grad():
        return rest(maps[None])[0, target].item()


def combined(maps, weights, image):
    """ReLU(Σ_k w_k A^k), enlarged."""
    total = torch.zeros_like(maps[0])
    for k, weight in enumerate(weights):
        total += weight * maps[k]
    return upsampled(positive(total), *image.shape[1:])


def cam(features, weights, image, target):
    """Σ_k w_k A^k with the linear layer's own weights, not rectified. Zhou et al. 2016."""
    maps = features_of(features, image)
    total = torch.zeros_like(maps[0])
    for k in range(len(maps)):
        total += weights[target, k] * maps[k]
    return upsampled(total, *image.shape[1:])


def alpha(g, total):
    """g² / (2 g² + g³ Σ A), 0 where that is 0/0. Chattopadhyay et al. 2018."""
    below = 2 * g**2 + g**3 * total
    return g**2 / below if below else 0.0


def grad_cam_plus_plus(features, rest, image, target):
    """w_k = Σ_p α_p ReLU(g_p)."""
    maps = features_of(features, image)
    gradients, weights = gradients_of(rest, maps, target), []
    for k in range(len(maps)):
        total = sum(maps[k, i, j].item() for i, j in pixels(maps))
        values = [gradients[k, i, j].item() for i, j in pixels(maps)]
        weights.append(sum(alpha(g, total) * positive(g) for g in values))
    return combined(maps, weights, image)


def share(value, total, count):
    """A_p / Σ_q A_q. Fu et al. 2020."""
    return value / total if total else 0.0


def xgrad_cam(features, rest, image, target):
    """w_k = Σ_p g_p A_p / Σ_q A_q."""
    maps = features_of(features, image)
    gradients, weights = gradients_of(rest, maps, target), []
    for k in range(len(maps)):
        total = sum(maps[k, i, j].item() for i, j in pixels(maps))
        shares = [share(maps[k, i, j].item(), total, len(pixels(maps))) for i, j in pixels(maps)]
        weights.append(sum(s * gradients[k, i, j].item() for s, (i, j) in zip(shares, pixels(maps), strict=True)))
    return combined(maps, weights, image)


def layer_cam(features, rest, image, target):
    """At each pixel ReLU(Σ_k ReLU(g) A^k). Jiang et al. 2021."""
    maps = features_of(features, image)
    gradients, total = gradients_of(rest, maps, target), torch.zeros_like(maps[0])
    for i, j in pixels(maps):
        total[i, j] = sum(positive(gradients[k, i, j].item()) * maps[k, i, j].item() for k in range(len(maps)))
    return upsampled(positive(total), *image.shape[1:])


def activation_map(features, rest, image, target):
    """The mean over feature maps."""
    maps = features_of(features, image)
    return upsampled(sum(maps) / len(maps), *image.shape[1:])


def centred(rows):
    """What Eigen-CAM decomposes: the rows as they are. Muhammad & Yeasin 2020."""
    return rows


def eigen_cam(features, rest, image, target):
    """Rows times the eigenvector of rowsᵀ rows with the largest eigenvalue, turned so that the sum is not negative."""
    maps = features_of(features, image)
    rows = centred(np.stack([maps[:, i, j].numpy() for i, j in pixels(maps)]))
    _, vectors = np.linalg.eigh(rows.T @ rows)
    values = rows @ vectors[:, -1]
    values = -values if values.sum() < 0 else values
    return upsampled(torch.from_numpy(values.reshape(maps.shape[1:])), *image.shape[1:])


def stretched(large):
    """To [0, 1]."""
    return (large - large.min()) / (large.max() - large.min())


def increase(seen, hidden):
    """Of confidence. Wang et al. 2020, algorithm 1."""
    return seen - hidden


def score_cam(model, features, image, target, background, probability=False):
    """w = softmax over k of the increase of confidence, or the probability; 0 for feature maps that are constant."""
    maps, image, background = features_of(features, image), image.double(), background.double()
    bare = network.logits(model, background)[target]
    scores = {}
    for k in range(len(maps)):
        large = upsampled(maps[k], *image.shape[1:])
        if large.max() == large.min():
            continue
        shown = image * stretched(large) + background * (1 - stretched(large))
        seen = network.logits(model, shown)[target]
        scores[k] = network.probability(model, shown, target) if probability else math.exp(increase(seen, bare))
    total = 1 if probability else sum(scores.values())
    return combined(maps, [scores.get(k, 0) / total for k in range(len(maps))], image)


def silenced(maps, k):
    """The feature maps without the k-th. Desai & Ramaswamy 2020."""
    return torch.stack([torch.zeros_like(m) if other == k else m for other, m in enumerate(maps)])


def ablation_cam(features, rest, image, target):
    """w_k = (s_c − s_c without A^k) / |s_c|."""
    maps = features_of(features, image)
    whole = score_of(rest, maps, target)
    drops = [whole - score_of(rest, silenced(maps, k), target) for k in range(len(maps))]
    return combined(maps, [drop / abs(whole) for drop in drops], image)


def quotient(y, y0, x, x0):
    """The rescale rule at a ReLU. Shrikumar et al. 2017, section 3.5.2."""
    return (y - y0) / (x - x0) if x != x0 else float(x > 0)


def contributions(layers, maps, target):
    """Of each feature map to s_c − s_c(zero maps): multipliers carried back through modules in a row, one after another.

    Linear layers pass them back as gradients. The change of a 2 × 2 maximum goes to the larger maximum's place.
    """
    pairs = [(maps[None], torch.zeros_like(maps)[None])]
    with torch.no_grad():
        for layer in layers:
            pairs.append(tuple(layer(value) for value in pairs[-1]))
    back = torch.zeros_like(pairs[-1][0])
    back[0, target] = 1
    for layer, (x, x0), (y, y0) in reversed(list(zip(layers, pairs, pairs[1:], strict=False))):
        found = torch.zeros_like(x)
        if isinstance(layer, torch.nn.ReLU):
            for index in np.ndindex(*x.shape):
                values = (value[index].item() for value in (y, y0, x, x0))
                found[index] = back[index] * quotient(*values)
        elif isinstance(layer, torch.nn.MaxPool2d):
            for _, k, i, j in np.ndindex(*y.shape):
                change = (y - y0)[0, k, i, j].item()
                winner = (x if change >= 0 else x0)[0, k, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                a, b = divmod(int(winner.argmax()), winner.shape[1])
                place = (0, k, 2 * i + a, 2 * j + b)
                moved = (x - x0)[place].item()
                found[place] += back[0, k, i, j] * (change / moved if moved else 1)
        else:
            leaf = x.clone().requires_grad_()
            (found,) = torch.autograd.grad(layer(leaf), leaf, back)
        back = found
    return [(back[0, k] * maps[k]).sum().item() for k in range(len(maps))]


def lift_cam(features, layers, image, target):
    """w_k = the contribution of A^k. Jung & Oh 2021."""
    maps = features_of(features, image)
    return combined(maps, contributions(layers, maps, target), image)


def shapley(rest, maps, target):
    """The mean, over all orders in which feature maps can be added to none, of what each adds to s_c."""
    orders = list(itertools.permutations(range(len(maps))))
    values = [0.0] * len(maps)
    scores = {
        chosen: score_of(rest, torch.stack([m * (k in chosen) for k, m in enumerate(maps)]), target)
        for size in range(len(maps) + 1)
        for chosen in itertools.combinations(range(len(maps)), size)
    }
    for order in orders:
        for position, k in enumerate(order):
            before = tuple(sorted(order[:position]))
            values[k] += (scores[tuple(sorted((*before, k)))] - scores[before]) / len(orders)
    return values
