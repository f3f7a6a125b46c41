"""Masking networks and what they are trained to: one image at a time in float64, from the papers' formulas, with plain loops."""

import math

import torch

from reference.masking import composed, enlarged, variation
from reference.network import exact, logits, probability


def convolved(maps, weight, bias=None):
    """A convolution with an odd kernel and zeros around, pixel by pixel."""
    count, _, size, _ = weight.shape
    h, w = maps.shape[1:]
    out = torch.zeros(count, h, w, dtype=torch.float64)
    for i in range(h):
        for j in range(w):
            for a in range(size):
                for b in range(size):
                    y, x = i + a - size // 2, j + b - size // 2
                    if 0 <= y < h and 0 <= x < w:
                        out[:, i, j] += weight[:, :, a, b].double() @ maps[:, y, x]
    return out if bias is None else out + bias.double()[:, None, None]


def block(maps, state, name):
    """Convolution, batch normalisation by its running statistics, ReLU."""
    out = convolved(maps, state[f"{name}.0.weight"])
    for k in range(len(out)):
        mean, var = state[f"{name}.1.running_mean"][k].item(), state[f"{name}.1.running_var"][k].item()
        gain, shift = state[f"{name}.1.weight"][k].item(), state[f"{name}.1.bias"][k].item()
        out[k] = ((out[k] - mean) / math.sqrt(var + 1e-5) * gain + shift).clamp(min=0)
    return out


def resized(maps, h, w):
    """Each map enlarged, bilinear."""
    return torch.stack([enlarged(m, h, w) for m in maps])


def ratio(pair):
    """|Z_0| / (|Z_0| + |Z_1|)."""
    out = torch.zeros_like(pair[0])
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            a, b = abs(pair[0, i, j].item()), abs(pair[1, i, j].item())
            out[i, j] = a / (a + b) if a + b else 0.0
    return out


def filtered(maps, vector):
    """X_ij σ(X_ij · C)."""
    out = maps.clone()
    for i in range(maps.shape[1]):
        for j in range(maps.shape[2]):
            dot = sum(maps[k, i, j].item() * vector[k].item() for k in range(len(maps)))
            out[:, i, j] = maps[:, i, j] / (1 + math.exp(-dot))
    return out


def selective(state, features, target, h, w, filtering=filtered, last=ratio):
    """The mask of one image for a class, from feature maps [k, u, v], shallow to deep. Dabkowski & Gal 2017."""
    features = [maps.double() for maps in features]
    flow = block(filtering(features[-1], state["selector.weight"][target]), state, "start")
    for step, maps in enumerate(reversed(features[:-1])):
        side = convolved(maps, state[f"sides.{step}.weight"], state[f"sides.{step}.bias"])
        flow = block(torch.cat([resized(flow, *maps.shape[1:]), side]), state, f"joins.{step}")
    return enlarged(last(convolved(flow, state["head.weight"], state["head.bias"])), h, w)


def parallel(state, features, h, w):
    """The mask of one image for all classes. Phang, Park & Geras 2020."""
    u, v = max(h // 4, features[0].shape[1]), max(w // 4, features[0].shape[2])
    parts = [resized(block(maps.double(), state, f"reduce.{k}"), u, v) for k, maps in enumerate(features)]
    score = convolved(torch.cat(parts), state["head.weight"], state["head.bias"])[0]
    return enlarged(1 / (1 + torch.exp(-score)), h, w)


def real_time_loss(model, image, hidden, mask, label, fake=False, tv=1e-3, area=8.0, removed=5.0, power=0.3):
    """λ₁ TV + λ₂ mean − log f_c(kept) + λ₃ f_c(left)^λ₄; for a fake class what is kept and what is left change places."""
    model, mask = exact(model), mask.double()
    shown = 1 - mask if fake else mask
    kept = probability(model, composed(image, hidden, shown), label)
    left = probability(model, composed(image, hidden, 1 - shown), label)
    return tv * variation(mask, 2).item() + area * mask.mean().item() - math.log(kept) + removed * left**power


def phang_loss(model, image, hidden, mask, label, size_in=1.0, size_out=10.0, tv=1e-3):
    """−log f_c(in) − H(out) − λ_in [in right − |M|]₊ − λ_out [out wrong − |M|]₊ + λ_TV TV; terms of `out` only where the model is right."""
    model, mask = exact(model), mask.double()
    inside, outside = composed(image, hidden, mask), composed(image, hidden, 1 - mask)
    classes = range(len(logits(model, image)))
    best = lambda x: max(classes, key=logits(model, x).__getitem__)  # noqa: E731
    size, right = mask.mean().item(), best(image) == label
    loss = tv * variation(mask, 2).item() - math.log(probability(model, inside, label))
    if best(inside) == label:
        loss -= size_in * (1 - size)
    if right:
        shares = [probability(model, outside, k) for k in classes]
        loss += sum(p * math.log(p) for p in shares)
        if best(outside) != label:
            loss -= size_out * (1 - size)
    return loss
