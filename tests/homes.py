"""Which small network a method is at home on: the first of a few that it fits."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from small_models import Pooled, Small, Tiny, lively, seeded, small_subject, tiny_subject, transformer
from torch import nn

from cardgen.errors import CardgenError
from cardgen.features import last_features
from cardgen.forward import logits, prepared
from cardgen.maskers import KINDS, build
from cardgen.methods import METHODS, require_fit


class Home(NamedTuple):
    """A network with images, another of its kind, and its last features."""

    subject: Callable[..., Small]
    another: Callable[[], nn.Module]
    layer: str | None


HOMES = {
    "tiny": Home(tiny_subject, lambda: lively(seeded(5, Tiny), 5), "features.relu2"),
    "pooled": Home(
        lambda n=7: small_subject(lively(seeded(2, Pooled)), 12, 10, n),
        lambda: lively(seeded(5, Pooled), 5),
        "features.relu2",
    ),
    "transformer": Home(lambda n=7: small_subject(transformer(), 16, 16, n), lambda: transformer(5), None),
}


def refusal(key, small):
    """Why a method cannot explain a network; empty where it can."""
    try:
        with prepared(small.model):
            require_fit(METHODS[key], small.model, small.inputs[:1])
            if METHODS[key].entry.access == "features":
                last_features(small.model, small.inputs[:1])
    except CardgenError as error:
        return str(error)
    return ""


@cache
def home(key):
    """Where a method is at home."""
    return next(name for name in HOMES if not refusal(key, HOMES[name].subject()))


def at_home(key, n=7):
    """The small subject on which a method is at home."""
    return HOMES[home(key)].subject(n)


def masking(key, small):
    """A masking network of a method for a network, untrained; None for methods that have none, and networks that they refuse."""
    if key not in KINDS or refusal(key, small):
        return None
    with prepared(small.model):
        classes = logits(small.model, small.inputs[:1]).shape[1]
    return lively(seeded(0, lambda: build(key, small.model, small.inputs[:1], classes)))
