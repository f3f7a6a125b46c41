"""Small networks and images for tests, and a guard that says whether a call left them as they were."""

import copy
from collections import OrderedDict
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from torchvision.models import VisionTransformer

SHARPNESS = 12


def seeded(seed, build):
    """What `build` makes under a seed, with the global generator put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def lively(model, seed=0):
    """The model with normalisation statistics and affine parameters that differ from their defaults, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            centred, positive = (module.running_mean, module.bias.data), (module.running_var, module.weight.data)
            for value, low in [*((v, -0.5) for v in centred), *((v, 0.5) for v in positive)]:
                value.copy_(low + torch.rand(value.shape, generator=generator))
    return model.eval()


class Tiny(nn.Module):
    """Two blocks of convolution, batch norm and ReLU; a flattening head, so that positions matter."""

    def __init__(self, classes=4, height=12, width=10):
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 4, 3, padding=1),
                norm1=nn.BatchNorm2d(4),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(4, 5, 3, stride=2, padding=1),
                norm2=nn.BatchNorm2d(5),
                relu2=nn.ReLU(),
            )
        )
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(5 * -(-height // 2) * -(-width // 2), classes)

    def forward(self, x):
        return SHARPNESS * self.head(self.dropout(self.features(x).flatten(1)))


class Pooled(nn.Module):
    """The same, with global average pooling and one linear layer: class activation maps are exact."""

    def __init__(self, classes=4):
        super().__init__()
        self.features = Tiny().features
        self.head = nn.Linear(5, classes)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class Block(nn.Module):
    """A residual block whose one in-place ReLU is used twice."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        y += x
        return self.relu(y)


class Residual(nn.Module):
    """A residual network of the usual kind: in-place and reused ReLUs, global average pooling."""

    def __init__(self, classes=5):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.layers = nn.Sequential(Block(6), Block(6))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, classes)

    def forward(self, x):
        return self.fc(self.pool(self.layers(self.stem(x))).flatten(1))


def vgg(classes=5):
    """Convolutions with in-place ReLUs, max pooling, and a head with dropout."""
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(
                nn.Conv2d(3, 6, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
                nn.Conv2d(6, 8, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ),
            pool=nn.AdaptiveAvgPool2d(2),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(nn.Linear(32, 16), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(16, classes)),
        )
    )


def transformer(seed=0):
    """A small vision transformer for images of 16 × 16, whose logits differ."""
    build = lambda: VisionTransformer(16, 4, 2, 2, 8, 16, num_classes=4)  # noqa: E731
    model = seeded(seed, build)
    draws = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():  # the head begins with zeros, biases too
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=draws)
    return model.eval()


class Linear(nn.Module):
    """Logits [Σ w·x, 0]: f_0 is the logistic function of Σ w·x."""

    def __init__(self, weights):
        super().__init__()
        weights = torch.as_tensor(weights, dtype=torch.float32)
        self.head = nn.Linear(weights.numel(), 2)
        self.head.weight.data = torch.stack([weights.flatten(), torch.zeros(weights.numel())])
        self.head.bias.data.zero_()

    def forward(self, x):
        return self.head(x.flatten(1))


class Share(nn.Module):
    """f_0(x) = Σ w·x exactly, for weights ≥ 0 that sum to at most 1 and images in [0, 1]: logits are log-probabilities."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(weights, dtype=torch.float32))

    def forward(self, x):
        p = (self.weights * x).sum((1, 2, 3)).clamp(1e-12, 1 - 1e-7)
        return torch.stack([p.log(), (1 - p).log()], 1)


class Plain(nn.Module):
    """Two convolutions with ReLUs, global average pooling, one linear layer; for images of any size."""

    def __init__(self, classes=4):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return SHARPNESS * self.head(self.features(x).mean((2, 3)))


def again(model, seed, share=1.0):
    """A copy of a model that moved this share of the way to weights drawn anew with the mean and deviation of each tensor."""
    other, draws = copy.deepcopy(model).eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            drawn = parameter.mean() + torch.randn(parameter.shape, generator=draws) * parameter.std(correction=0)
            parameter.lerp_(drawn, share)
    return other


def siblings_of(model, classes=4):
    """Every kind of sibling that a metric takes, by name: other weights, hardly other ones, and networks of another class."""
    return {
        "seed-1": again(model, 11),
        "seed-2": again(model, 12),
        "random-labels": again(model, 13),
        "compressed-pruned": again(model, 14, 0.1),
        "compressed-int8": again(model, 15, 0.02),
        "architecture": seeded(16, lambda: Plain(classes)).eval(),
        "scene": seeded(17, lambda: Plain(3)).eval(),
    }


def in_other_words(inputs):
    """Other inputs that mean the same."""
    return 0.96 * inputs + 0.02


class Small(NamedTuple):
    """A model with seven images, their targets, masks, and random maps."""

    model: nn.Module
    inputs: torch.Tensor
    targets: torch.Tensor
    masks: torch.Tensor
    maps: torch.Tensor

    @property
    def call(self):
        """The positional arguments of explain and measure, after the key."""
        return self.model, self.inputs, self.targets

    def take(self, rows):
        """The same with some of the samples, in the order given."""
        return Small(self.model, *(value[rows] for value in self[1:]))


def small_subject(model, height, width, n=7, classes=None, seed=3):
    """Random images in [0, 1] for a model; targets differ from sample to sample."""
    draws = torch.Generator().manual_seed(seed)
    inputs = torch.rand(n, 3, height, width, generator=draws)
    with torch.no_grad():
        classes = classes or model(inputs).shape[1]
    targets = torch.arange(n) % classes
    masks = torch.zeros(n, height, width, dtype=torch.bool)
    for i in range(n):
        masks[i, i % (height - 3) : i % (height - 3) + 3, i % (width - 4) : i % (width - 4) + 4] = True
    return Small(model, inputs, targets, masks, torch.rand(n, height, width, generator=draws))


def tiny_subject(n=7):
    """The subject that references run on."""
    return small_subject(lively(seeded(0, Tiny)), 12, 10, n)


def told_apart(small, background):
    """The same with the classes that speak most for the images against a background, so that it takes pixels of the image to keep them."""
    with torch.no_grad():
        lead = small.model(small.inputs).log_softmax(1) - small.model(background).log_softmax(1)
    return small._replace(targets=lead.argmax(1))


def snapshot(model):
    """All that a call must leave as it was: values and identities of weights, flags, modes, hooks, global generator."""
    return {
        "tensors": {k: (id(v), v.detach().clone()) for k, v in model.state_dict(keep_vars=True).items()},
        "flags": {k: v.requires_grad for k, v in model.named_parameters()},
        "gradients": {k: v.grad is None for k, v in model.named_parameters()},
        "modes": {k: m.training for k, m in model.named_modules()},
        "hooks": {
            k: (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), len(m._backward_pre_hooks))
            for k, m in model.named_modules()
        },
        "modules": {k: id(m) for k, m in model.named_modules()},
        "attributes": {k: sorted(vars(m)) for k, m in model.named_modules()},
        "generator": torch.random.get_rng_state(),
    }


def same(a, b):
    """Whether two snapshots are equal, tensors to the last bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@contextmanager
def untouched(model, *tensors):
    """Fails unless the model, the tensors and torch's global generator come out as they went in."""
    before, values = snapshot(model), [t.clone() for t in tensors]
    flags = [t.requires_grad for t in tensors]
    yield
    after = snapshot(model)
    changed = [k for k in before if not same(before[k], after[k])]
    assert changed == [], f"changed: {changed}"
    assert all(torch.equal(a, b) for a, b in zip(tensors, values, strict=True)), "an argument was written to"
    assert [t.requires_grad for t in tensors] == flags


def every_batch_and_order(score, n=7, tolerance=1e-6):
    """`score(rows, batch)` gives the same numbers for any batch, any order, and any company."""
    import numpy as np

    whole = np.asarray(score(list(range(n)), n))
    for batch in (1, 3, n + 5):
        np.testing.assert_allclose(score(list(range(n)), batch), whole, rtol=0, atol=tolerance)
    order = [4, 0, 6, 2, 5, 1, 3][:n]
    np.testing.assert_allclose(score(order, 2), whole[order], rtol=0, atol=tolerance)
    for alone in (0, n - 1):
        np.testing.assert_allclose(score([alone], 4), whole[[alone]], rtol=0, atol=tolerance)
    assert np.ptp(whole) > 0, "all samples score the same: the comparison could not fail"
