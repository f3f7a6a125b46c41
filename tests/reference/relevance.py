"""Relevance propagation, DeepLIFT and excitation backprop on networks written out as matrices, one vector and one unit at a time.

A network is a list of steps on flat vectors. Every convolution and average is a matrix, written out weight by weight.
"""

import math

import numpy as np


def array(tensor):
    """A float64 array."""
    return tensor.detach().double().numpy()


class Network:
    """Steps (kind, sources, what it needs); the last one gives the scores. Step 0 is the image."""

    def __init__(self, shape):
        self.steps = [("image", (), None)]
        self.shapes = [tuple(shape)]

    def add_step(self, kind, sources, needs, shape):
        self.steps.append((kind, sources, needs))
        self.shapes.append(tuple(shape))
        return len(self.steps) - 1

    def linear(self, at, module):
        weight = array(module.weight)
        bias = np.zeros(len(weight)) if module.bias is None else array(module.bias)
        return self.add_step("linear", (at,), (weight, bias), (len(weight),))

    def convolution(self, at, module, norm=None):
        """A Conv2d, zero padded, with the batch normalisation after it folded into its weights."""
        weight = array(module.weight)
        bias = np.zeros(len(weight)) if module.bias is None else array(module.bias)
        if norm is not None:
            for k in range(len(weight)):
                factor = norm.weight[k].item() / math.sqrt(norm.running_var[k].item() + norm.eps)
                weight[k] *= factor
                bias[k] = (bias[k] - norm.running_mean[k].item()) * factor + norm.bias[k].item()
        channels, height, width = self.shapes[at]
        size, stride, padding = module.kernel_size[0], module.stride[0], module.padding[0]
        rows = (height + 2 * padding - size) // stride + 1
        columns = (width + 2 * padding - size) // stride + 1
        matrix = np.zeros((len(weight), rows, columns, channels, height, width))
        for i in range(rows):
            for j in range(columns):
                for u in range(size):
                    for v in range(size):
                        y, x = i * stride + u - padding, j * stride + v - padding
                        if 0 <= y < height and 0 <= x < width:
                            matrix[:, i, j, :, y, x] = weight[:, :, u, v]
        shape = (len(weight), rows, columns)
        flat = matrix.reshape(len(weight) * rows * columns, channels * height * width)
        return self.add_step("convolution", (at,), (flat, np.repeat(bias, rows * columns)), shape)

    def scale(self, at, factor):
        return self.add_step("scale", (at,), factor, self.shapes[at])

    def relu(self, at):
        return self.add_step("relu", (at,), None, self.shapes[at])

    def maximum(self, at, size):
        """Max pooling without overlap: for each output the places of its inputs."""
        channels, height, width = self.shapes[at]
        rows, columns = height // size, width // size
        windows = [
            [(c * height + i * size + u) * width + j * size + v for u in range(size) for v in range(size)]
            for c in range(channels)
            for i in range(rows)
            for j in range(columns)
        ]
        return self.add_step("maximum", (at,), windows, (channels, rows, columns))

    def average(self, at, size):
        """Adaptive average pooling to size × size: output i takes the inputs from ⌊i h / size⌋ to ⌈(i + 1) h / size⌉."""
        channels, height, width = self.shapes[at]
        matrix = np.zeros((channels, size, size, channels, height, width))
        for i in range(size):
            for j in range(size):
                ys = range(i * height // size, -(-(i + 1) * height // size))
                xs = range(j * width // size, -(-(j + 1) * width // size))
                for c in range(channels):
                    for y in ys:
                        for x in xs:
                            matrix[c, i, j, c, y, x] = 1 / (len(ys) * len(xs))
        flat = matrix.reshape(channels * size * size, channels * height * width)
        return self.add_step("average", (at,), (flat, np.zeros(len(flat))), (channels, size, size))

    def addition(self, a, b):
        return self.add_step("addition", (a, b), None, self.shapes[a])

    def values(self, image):
        """The vectors of all steps."""
        found = []
        for kind, sources, needs in self.steps:
            at = [found[k] for k in sources]
            if kind == "image":
                found.append(array(image).ravel())
            elif kind == "relu":
                found.append(np.array([max(v, 0.0) for v in at[0]]))
            elif kind == "maximum":
                found.append(np.array([max(at[0][i] for i in window) for window in needs]))
            elif kind == "addition":
                found.append(at[0] + at[1])
            elif kind == "scale":
                found.append(needs * at[0])
            else:
                found.append(needs[0] @ at[0] + needs[1])
        return found


def tiny(model, sharpness):
    """small_models.Tiny on images of 12 × 10."""
    net, f = Network((3, 12, 10)), model.features
    at = net.relu(net.convolution(0, f.conv1, f.norm1))
    at = net.relu(net.convolution(at, f.conv2, f.norm2))
    net.scale(net.linear(at, model.head), sharpness)
    return net


def vgg(model):
    """small_models.vgg on images of 12 × 10."""
    net, f, c = Network((3, 12, 10)), model.features, model.classifier
    at = net.maximum(net.relu(net.convolution(0, f[0])), 2)
    at = net.maximum(net.relu(net.convolution(at, f[3])), 2)
    at = net.relu(net.linear(net.average(at, 2), c[0]))
    net.linear(at, c[3])
    return net


def residual(model):
    """small_models.Residual on images of 16 × 14."""
    net = Network((3, 16, 14))
    at = net.relu(net.convolution(0, model.stem[0], model.stem[1]))
    for block in model.layers:
        inner = net.relu(net.convolution(at, block.conv1, block.norm1))
        at = net.relu(net.addition(net.convolution(inner, block.conv2, block.norm2), at))
    net.linear(net.average(at, 1), model.fc)
    return net


def deeplift(net, image, baseline, target, pooled="larger"):
    """Multipliers from the score down, times the difference of the images. Shrikumar et al. 2017, equations 1 to 3, and Rescale."""
    values, before = net.values(image), net.values(baseline)
    m = [np.zeros(len(v)) for v in values]
    m[-1][target] = 1
    for k in reversed(range(1, len(values))):
        kind, sources, needs = net.steps[k]
        at = sources[0]
        if kind == "relu":
            for i in range(len(values[k])):
                change = values[at][i] - before[at][i]
                slope = (values[k][i] - before[k][i]) / change if change else float(values[at][i] > 0)
                m[at][i] += slope * m[k][i]
        elif kind == "maximum":
            for j, window in enumerate(needs):
                larger = values if values[k][j] >= before[k][j] or pooled == "image" else before
                winner = next(i for i in window if larger[at][i] == larger[k][j])
                change = values[at][winner] - before[at][winner]
                m[at][winner] += m[k][j] * ((values[k][j] - before[k][j]) / change if change else 1.0)
        elif kind == "addition":
            for source in sources:
                m[source] += m[k]
        elif kind == "scale":
            m[at] += needs * m[k]
        else:
            m[at] += needs[0].T @ m[k]
    return (m[0] * (values[0] - before[0])).reshape(net.shapes[0])


def ratio(part, whole):
    """part / whole, nothing of nothing."""
    return part / whole if whole else 0.0 * part


def epsilon(a, w, b, j, r, epsilon=1e-6):
    """LRP-ε for one output j. Bach et al. 2015, equations 58 and 59."""
    z = float(w[j] @ a + b[j])
    return a * w[j] / (z + (epsilon if z >= 0 else -epsilon)) * r


def alpha_beta(a, w, b, j, r, alpha=1.0):
    """LRP-αβ for one output j. Bach et al. 2015, equation 60."""
    parts = a * w[j]
    up, down = np.maximum(parts, 0), np.minimum(parts, 0)
    for_it = ratio(up, up.sum() + max(b[j], 0))
    against = ratio(down, down.sum() + min(b[j], 0))
    return (alpha * for_it - (alpha - 1) * against) * r


def positive(a, w, b, j, r):
    """The z⁺-rule for one output j. Montavon et al. 2017."""
    up = np.maximum(a * w[j], 0)
    return ratio(up, up.sum()) * r


def bounded(low, high):
    """The z^B-rule. Montavon et al. 2017."""

    def rule(a, w, b, j, r):
        parts = a * w[j] - low * np.maximum(w[j], 0) - high * np.minimum(w[j], 0)
        return ratio(parts, parts.sum()) * r

    return rule


def against(a, w, b, j, r):
    """The z⁺-rule for the output with all its weights negated."""
    return positive(a, -w, b, j, r)


def propagated(net, image, start, rules, positive_sums=False, stop=0):
    """Relevance of step `stop`, from `start` at the scores. `rules` gives the rule of one output for a kind of layer or a step."""
    values = net.values(image)
    relevance = [np.zeros(len(v)) for v in values]
    relevance[-1] = start
    for k in reversed(range(stop + 1, len(values))):
        kind, sources, needs = net.steps[k]
        at, r = sources[0], relevance[k]
        if kind in ("relu", "scale"):
            relevance[at] += r
        elif kind == "maximum":
            for j, window in enumerate(needs):
                winner = next(i for i in window if values[at][i] == values[k][j])
                relevance[at][winner] += r[j]
        elif kind == "addition":
            for i in range(len(r)):
                parts = np.array([values[source][i] for source in sources])
                parts = np.maximum(parts, 0) if positive_sums else parts
                for source, part in zip(sources, parts, strict=True):
                    relevance[source][i] += ratio(part, parts.sum()) * r[i]
        else:
            plain = positive if positive_sums else lambda *args: epsilon(*args, epsilon=0)
            rule = plain if kind == "average" else rules.get(k, rules.get(kind))
            for j in np.flatnonzero(r):
                relevance[at] += rule(values[at], *needs, j, r[j])
    return relevance[stop].reshape(net.shapes[stop])


def one_hot(net, image, target, value=None):
    """The score of the target alone, or a value in its place."""
    scores = net.values(image)[-1]
    start = np.zeros(len(scores))
    start[target] = scores[target] if value is None else value
    return start


def lrp(net, image, target, low=0.0, high=1.0, rules=None):
    """z^B for the first layer, αβ for convolutions, ε for linear layers, unless `rules` says otherwise."""
    chosen = {1: bounded(low, high), "convolution": alpha_beta, "linear": epsilon, **(rules or {})}
    return propagated(net, image, one_hot(net, image, target), chosen)


def deep_taylor(net, image, target, low=0.0, high=1.0, rules=None):
    """z^B for the first layer, z⁺ for the others. Montavon et al. 2017."""
    start = one_hot(net, image, target)
    chosen = {1: bounded(low, high), "convolution": positive, "linear": positive, **(rules or {})}
    return propagated(net, image, np.abs(start), chosen, positive_sums=True)


def excitation(net, image, target, stop, contrastive=True, clipped=True):
    """Chances at a step, summed over channels. Zhang et al. 2016, equations 1 to 4; the contrast at the inputs of the last layer."""
    rules = {"convolution": positive, "linear": positive}
    start = one_hot(net, image, target, 1.0)
    found = propagated(net, image, start, rules, positive_sums=True, stop=stop)
    if contrastive:
        last = max(k for k, step in enumerate(net.steps) if step[0] == "linear")
        rules = {**rules, last: against}
        found = found - propagated(net, image, start, rules, positive_sums=True, stop=stop)
    found = found.sum(0)
    return np.maximum(found, 0) if clipped else found
