"""Random numbers: every draw comes from a generator named by what it is for.

A generator's seed is a digest of (run seed, sample or "shared", purpose, draw), so a sample's draws depend on nothing but itself:
not on the batch it came in, the order of samples, or how many draws others took. Draw k is the same in every budget.
"""

import hashlib
from collections.abc import Sequence
from copy import copy
from typing import overload

import torch
from jaxtyping import Float, Int
from torch import Tensor


def seed_of(*parts: object) -> int:
    """A 63-bit seed that depends on all parts and their order."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded by `parts`; draws are made on the CPU, so that they are the same on every device."""
    return torch.Generator().manual_seed(seed_of(*parts))


def uniform(ids: Sequence[str], shape: tuple[int, ...], *parts: object) -> Float[Tensor, "n ..."]:
    """Uniform numbers in [0, 1) of `shape` for each sample, from that sample's own generator."""
    return torch.stack([torch.rand(shape, generator=generator(*parts, sample)) for sample in ids])


def permutations(ids: Sequence[str], size: int, *parts: object) -> Int[Tensor, "n size"]:
    """A random permutation of range(size) for each sample, from that sample's own generator."""
    return torch.stack([torch.randperm(size, generator=generator(*parts, sample)) for sample in ids])


class ContentIds(Sequence[str]):
    """Names for samples that have none: a digest of their values, the same whatever batch they come in.

    Each is worked out when it is first asked for: a digest can take as long as the forward pass of a fast model, and many methods
    draw nothing. The samples must stay as they are.
    """

    def __init__(self, inputs: Float[Tensor, "n c h w"]) -> None:
        self._inputs, self._rows = inputs.detach(), range(len(inputs))
        self._known: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> "ContentIds": ...

    def __getitem__(self, at: int | slice) -> "str | ContentIds":
        if isinstance(at, slice):
            part = copy(self)
            part._rows = self._rows[at]
            return part
        row = self._rows[at]
        if row not in self._known:
            values = self._inputs[row].cpu().float().numpy()
            self._known[row] = hashlib.sha256(values.tobytes()).hexdigest()[:16]
        return self._known[row]


def content_ids(inputs: Float[Tensor, "n c h w"]) -> tuple[str, ...]:
    """The names of `ContentIds`, all of them now."""
    return tuple(ContentIds(inputs))
