"""What masking networks are trained to: the losses of the two papers, one number a sample, and what they hide pixels behind."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cardgen.forward import logits
from cardgen.mask_slopes import mixed, variation
from cardgen.space import Space, gaussian_blur

VARIATION, AREA, REMOVED, POWER = 1e-3, 8.0, 5.0, 0.3
"""λ₁ to λ₄ of Dabkowski & Gal."""
KEPT_SIZE, LEFT_SIZE, ROUGHNESS = 1.0, 10.0, 1e-3
"""λ_in, λ_out and λ_TV of Phang, Park & Geras, for a classifier that stays as it is."""
BLUR = 11 / 224
"""Deviation of the Gaussian of `backgrounds`, as a share of the image's shorter side: 11 of 224 pixels."""
NOISE = 0.055
"""Deviation of the noise on the colours of `backgrounds`, as a share of a channel's range."""


def real_time_loss(
    classifier: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    hidden: Float[Tensor, "n c h w"],
    masks: Float[Tensor, "n 1 h w"],
    labels: Int[Tensor, " n"],
    fake: Bool[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """λ₁ Σ (M(p) − M(q))² + λ₂ mean M − log f_c(Φ(x, M)) + λ₃ f_c(Φ(x, 1 − M))^λ₄ of each sample: the loss of Dabkowski & Gal 2017.

    Φ(x, M) = x̄ + M (x − x̄), x̄ the `hidden` image, c the label, p and q neighbours, f the softmax probability. Of a sample whose mask was
    asked for a fake class, M and 1 − M change places in the terms with f: its mask is to take nothing away from the label, as in
    the authors' code.

    λ₃ and λ₄ are the paper's. It gives λ₁ = 10 and λ₂ = 0.001, with which a sharp edge costs more than everything else if the variation
    is a sum; the authors' code has 0.0025 in the place of λ₁, and 8 in that of λ₂, there of the mean of (M + 0.0005)^0.3. On the embedded
    images λ₁ was tried from 0.0002 to 0.0025 and λ₂ from 2 to 32: smaller λ₂ give discs, larger ones empty masks.
    """
    kept = torch.where(fake[:, None, None, None], 1 - masks, masks)
    with_mask, without = _log_probabilities(classifier, inputs, hidden, kept)
    penalty = VARIATION * variation(masks, 2) + AREA * masks.flatten(1).mean(1)
    return penalty - _at(with_mask, labels) + REMOVED * (POWER * _at(without, labels)).exp()


def phang_loss(
    classifier: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    hidden: Float[Tensor, "n c h w"],
    masks: Float[Tensor, "n 1 h w"],
    labels: Int[Tensor, " n"],
    clean: Float[Tensor, "n k"],
) -> Float[Tensor, " n"]:
    """−log f_c(x_in) − r H(f(x_out)) − λ_in [in ✓ − |M|]₊ − λ_out [r · out ✗ − |M|]₊ + λ_TV Σ (M(p) − M(q))² of each sample.

    x_in = x̄ + M (x − x̄) is the image masked in, x_out = x̄ + (1 − M) (x − x̄) masked out, x̄ the `hidden` image; c the label, f the
    softmax probability, H the entropy, |M| the mask's mean, p and q neighbours. r is 1 where the model is right about the image itself,
    of which `clean` are the logits; ✓ and ✗ where the largest score is or is not the label's: a mask is made smaller only where it
    does its work. Phang, Park & Geras 2020, in the variant FIX, with the weights that the authors' code has for it.

    The code also charges the mask's values along the image's border, at 0.3 of what neighbours cost.
    """
    inside, outside = _log_probabilities(classifier, inputs, hidden, masks)
    right = clean.argmax(1) == labels
    size = masks.flatten(1).mean(1)
    does, undoes = inside.argmax(1) == labels, right & (outside.argmax(1) != labels)
    smallness = KEPT_SIZE * (does.float() - size).relu() + LEFT_SIZE * (undoes.float() - size).relu()
    entropy = -(outside.exp() * outside).sum(1)
    return ROUGHNESS * variation(masks, 2) - _at(inside, labels) - right * entropy - smallness


def backgrounds(inputs: Float[Tensor, "n c h w"], space: Space) -> Float[Tensor, "n c h w"]:
    """What Dabkowski & Gal hide pixels behind: of every second image, at random, its blur; else a colour with Gaussian noise.

    Colours are drawn, channel by channel, from the middle third of the channel's range, as in the authors' code. All draws come from
    torch's global generator.
    """
    n, channels = inputs.shape[:2]
    blurred = torch.rand(n, device=inputs.device) < 0.5
    colours = space.between((1 + torch.rand(n, channels, 1, 1, device=inputs.device)) / 3)
    noisy = colours + NOISE * space.range(inputs) * torch.randn_like(inputs)
    return torch.where(blurred[:, None, None, None], in_proportion(inputs), noisy)


def in_proportion(inputs: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """The images under a Gaussian whose deviation is a share of their shorter side, cut at two and a half deviations."""
    sigma = BLUR * min(inputs.shape[2:])
    return gaussian_blur(inputs, sigma, 2 * round(2.5 * sigma) + 1)


def _log_probabilities(
    classifier: nn.Module, inputs: Tensor, hidden: Tensor, masks: Float[Tensor, "n 1 h w"]
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
    """log f of the images under the masks, and under their complements, in one forward pass."""
    seen = torch.cat([mixed(hidden, inputs, masks), mixed(hidden, inputs, 1 - masks)])
    kept, left = logits(classifier, seen).log_softmax(1).chunk(2)
    return kept, left


def _at(values: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    return values.gather(1, labels[:, None])[:, 0]
