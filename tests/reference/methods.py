"""Saliency methods from their formulas, one image at a time in float64."""

import copy
import math

import numpy as np
import torch

from reference.network import exact, probability


def score(model, image, target):
    """s_c(x) of a float64 model."""
    return model(image[None])[0, target]


def vanilla_gradients(model, image, target, step=1e-6):
    """∂s_c/∂x by central differences, one input value at a time: nothing is differentiated. Simonyan et al. 2014."""
    model, image = exact(model), image.double()
    found = torch.zeros_like(image)
    with torch.no_grad():
        for index in np.ndindex(*image.shape):
            up, down = image.clone(), image.clone()
            up[index] += step
            down[index] -= step
            found[index] = (score(model, up, target) - score(model, down, target)) / (2 * step)
    return found


def gradient(model, image, target):
    """∂s_c/∂x by automatic differentiation."""
    image = image.clone().requires_grad_()
    return torch.autograd.grad(score(model, image, target), image)[0]


def integrated_gradients(model, image, target, baseline, steps=50):
    """(x − x̄) Σ_i w_i ∂s_c(x̄ + α_i (x − x̄)), with Gauss–Legendre nodes and weights on [0, 1]. Sundararajan et al. 2017."""
    model, image, baseline = exact(model), image.double(), baseline.double()
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    total = torch.zeros_like(image)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        total += weight * gradient(model, baseline + node * (image - baseline), target)
    return (image - baseline) * total


def path_integral(model, image, target, baseline, steps=2000):
    """The same integral by a fine midpoint rule: independent of any choice of nodes."""
    model, image, baseline = exact(model), image.double(), baseline.double()
    total = torch.zeros_like(image)
    for k in range(steps):
        total += gradient(model, baseline + (k + 0.5) / steps * (image - baseline), target) / steps
    return (image - baseline) * total


def input_x_gradient(model, image, target):
    """x ⊙ ∂s_c/∂x, the derivative by central differences. Shrikumar et al. 2016."""
    return image.double() * vanilla_gradients(model, image, target)


def smoothgrad(model, image, target, noise):
    """1/N Σ_k ∂s_c(x + ε_k)/∂x for the ε_k given. Smilkov et al. 2017."""
    model, total = exact(model), torch.zeros_like(image, dtype=torch.float64)
    for epsilon in noise:
        total += gradient(model, image.double() + epsilon.double(), target)
    return total / len(noise)


class Guided(torch.autograd.Function):
    """max(h, 0), and on the way back [h > 0] max(g, 0). Springenberg et al. 2015, section 4."""

    @staticmethod
    def forward(context, h):
        context.save_for_backward(h)
        return torch.where(h > 0, h, 0)

    @staticmethod
    def backward(context, g):
        (h,) = context.saved_tensors
        return torch.where((h > 0) & (g > 0), g, 0)


class GuidedReLU(torch.nn.Module):
    """Guided as a module."""

    def forward(self, h):
        return Guided.apply(h)


def guided_backprop(model, image, target, rectifier=GuidedReLU):
    """The gradient of a copy in which every torch.nn.ReLU, wherever and however often it is used, is a GuidedReLU."""
    model = copy.deepcopy(exact(model))
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, torch.nn.ReLU):
                parent._modules[name] = rectifier()
    return gradient(model, image.double(), target)


def occlusion(model, image, target, background, windows):
    """At each pixel the mean drop of f_c over the windows (top, left, height, width) that cover it. Zeiler & Fergus 2014."""
    whole = probability(model, image, target)
    total, times = (torch.zeros(image.shape[1:], dtype=torch.float64) for _ in range(2))
    for top, left, height, width in windows:
        covered = image.clone()
        for i in range(top, top + height):
            for j in range(left, left + width):
                covered[:, i, j] = background[:, i, j]
        drop = whole - probability(model, covered, target)
        for i in range(top, top + height):
            for j in range(left, left + width):
                total[i, j] += drop
                times[i, j] += 1
    return total / times


def upsampled(small, height, width):
    """Bilinear, align_corners=False: output pixel i looks at (i + ½)·h/H − ½, held inside the map."""
    h, w = small.shape
    out = torch.zeros(height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * h / height - 0.5, 0), h - 1)
            x = min(max((j + 0.5) * w / width - 0.5, 0), w - 1)
            a, b = math.floor(y), math.floor(x)
            c, d = min(a + 1, h - 1), min(b + 1, w - 1)
            s, t = y - a, x - b
            out[i, j] = (1 - s) * ((1 - t) * small[a, b] + t * small[a, d]) + s * (
                (1 - t) * small[c, b] + t * small[c, d]
            )
    return out


def grad_cam(features, rest, image, target):
    """ReLU(Σ_k α_k A^k), α_k = mean over pixels of ∂s_c/∂A^k; `rest` maps feature maps to logits. Selvaraju et al. 2017.

    `features` and `rest` are the two halves of one float64 network in evaluation mode.
    """
    maps = features(image.double()[None]).detach().requires_grad_()
    gradients = torch.autograd.grad(rest(maps)[0, target], maps)[0][0]
    channels, h, w = gradients.shape
    total = torch.zeros(h, w, dtype=torch.float64)
    for k in range(channels):
        alpha = sum(gradients[k, i, j].item() for i in range(h) for j in range(w)) / (h * w)
        total += alpha * maps.detach()[0, k]
    return upsampled(total.clamp(min=0), *image.shape[1:])


def rise(model, image, target, masks, background):
    """Σ_m f_c(x ⊙ M_m + x̄ ⊙ (1 − M_m)) M_m / Σ_m M_m. Petsiuk et al. 2018, equation 6."""
    image, background = image.double(), background.double()
    top = torch.zeros(image.shape[1:], dtype=torch.float64)
    bottom = torch.zeros_like(top)
    for mask in masks.double():
        top += probability(model, image * mask + background * (1 - mask), target) * mask
        bottom += mask
    return top / bottom


def rise_grid(mask, grid):
    """The (row shift, column shift, coin flips) that make a mask, or None: section 3.2 of Petsiuk et al. 2018.

    A mask is a crop at a random offset inside one cell of a (grid + 1)² upsampling of grid² coin flips to cells of ⌈h/grid⌉ × ⌈w/grid⌉.
    """
    h, w = mask.shape
    cell_h, cell_w = math.ceil(h / grid), math.ceil(w / grid)
    rows = interpolation(grid, (grid + 1) * cell_h)
    columns = interpolation(grid, (grid + 1) * cell_w)
    for dy in range(cell_h):
        for dx in range(cell_w):
            left, right = rows[dy : dy + h], columns[dx : dx + w]
            flips = np.linalg.pinv(left) @ mask.double().numpy() @ np.linalg.pinv(right).T
            binary = np.round(flips).clip(0, 1)
            if np.abs(left @ binary @ right.T - mask.double().numpy()).max() < 1e-5:
                return dy, dx, binary
    return None


def interpolation(small, large):
    """The matrix [large, small] of bilinear upsampling without aligned corners along one axis."""
    matrix = np.zeros((large, small))
    for i in range(large):
        y = min(max((i + 0.5) * small / large - 0.5, 0), small - 1)
        a = math.floor(y)
        matrix[i, a] += 1 - (y - a)
        matrix[i, min(a + 1, small - 1)] += y - a
    return matrix


def centred_gaussian(h, w):
    """exp(−((y/σ_h)² + (x/σ_w)²)/2) around the centre, σ a quarter of each side."""
    return torch.tensor(
        [
            [math.exp(-(((i - (h - 1) / 2) / (h / 4)) ** 2 + ((j - (w - 1) / 2) / (w / 4)) ** 2) / 2) for j in range(w)]
            for i in range(h)
        ],
        dtype=torch.float64,
    )


def edges(image):
    """√(Gx² + Gy²) of the channels' mean, Sobel's 3 × 3 kernels with weights 1, 2, 1; mirrored about the outermost pixels."""
    grey = image.double().mean(0)
    h, w = grey.shape
    mirror = lambda k, size: -k if k < 0 else (2 * (size - 1) - k if k >= size else k)  # noqa: E731
    at = lambda i, j: grey[mirror(i, h), mirror(j, w)].item()  # noqa: E731
    out = torch.zeros(h, w, dtype=torch.float64)
    for i in range(h):
        for j in range(w):
            gx = sum(wt * (at(i + d, j + 1) - at(i + d, j - 1)) for d, wt in ((-1, 1), (0, 2), (1, 1)))
            gy = sum(wt * (at(i + 1, j + d) - at(i - 1, j + d)) for d, wt in ((-1, 1), (0, 2), (1, 1)))
            out[i, j] = math.hypot(gx, gy)
    return out


def input_magnitude(image, mean):
    """|mean over channels of (x − mean)|."""
    return (image.double() - mean).mean(0).abs()
