"""Methods made of gradients, from their formulas: one image, one draw and one step of a path at a time, in float64."""

import torch

from reference import methods
from reference.network import exact


def at_noise(model, image, target, noise):
    """∂s_c(x + ε_k)/∂x for each ε_k given."""
    model = exact(model)
    return [methods.gradient(model, image.double() + epsilon.double(), target) for epsilon in noise]


def smoothgrad_squared(model, image, target, noise):
    """1/N Σ_k (∂s_c(x + ε_k)/∂x)². Hooker et al. 2019, section 4.1."""
    total = torch.zeros_like(image, dtype=torch.float64)
    for gradient in at_noise(model, image, target, noise):
        total += gradient * gradient
    return total / len(noise)


def vargrad(model, image, target, noise):
    """The mean first, then 1/N Σ_k (g_k − ḡ)². Adebayo et al. 2018, appendix A.7."""
    found = at_noise(model, image, target, noise)
    mean = sum(found) / len(noise)
    total = torch.zeros_like(mean)
    for gradient in found:
        total += (gradient - mean) * (gradient - mean)
    return total / len(noise)


def ig_smoothgrad(model, image, target, noise, baseline, steps):
    """1/N Σ_k of the integrated gradients of x + ε_k from one baseline. Adebayo et al. 2018, appendix A.5 and A.6."""
    total = torch.zeros_like(image, dtype=torch.float64)
    for epsilon in noise:
        total += methods.integrated_gradients(model, image.double() + epsilon.double(), target, baseline, steps)
    return total / len(noise)


def gradient_shap(model, image, target, drawn):
    """1/N Σ_k (x − x'_k) ∂s_c(x'_k + α_k (x − x'_k))/∂x for the pairs (x'_k, α_k) given. Erion et al. 2021."""
    model, image = exact(model), image.double()
    total = torch.zeros_like(image)
    for baseline, share in drawn:
        away = image - baseline.double()
        total += away * methods.gradient(model, baseline.double() + float(share) * away, target)
    return total / len(drawn)


class Deconvolved(torch.autograd.Function):
    """max(h, 0), and on the way back max(g, 0), whatever h was. Zeiler and Fergus 2014, section 2.1."""

    @staticmethod
    def forward(context, h):
        return torch.where(h > 0, h, 0)

    @staticmethod
    def backward(context, g):
        return torch.where(g > 0, g, 0)


class DeconvolvedReLU(torch.nn.Module):
    """Deconvolved as a module."""

    def forward(self, h):
        return Deconvolved.apply(h)


def deconvolution(model, image, target):
    """The gradient of a copy in which every torch.nn.ReLU, wherever and however often it is used, is a DeconvolvedReLU."""
    return methods.guided_backprop(model, image, target, rectifier=DeconvolvedReLU)


def guided_grad_cam(model, features, rest, image, target):
    """Guided backpropagation times Grad-CAM, value by value. Selvaraju et al. 2017, section 3.2.

    `features` and `rest` are the two halves of the model in float64.
    """
    guided = methods.guided_backprop(model, image, target)
    where = methods.grad_cam(features, rest, image, target)
    found = torch.zeros_like(guided)
    for channel in range(len(guided)):
        for i in range(guided.shape[1]):
            for j in range(guided.shape[2]):
                found[channel, i, j] = guided[channel, i, j] * where[i, j]
    return found
