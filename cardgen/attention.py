"""Attention weights of vision transformers, whoever wrote them, and the map that they make of the image's patches.

Weights are seen where torch computes attention, not in modules of certain names: `F.multi_head_attention_forward` (nn.MultiheadAttention,
so torchvision), `F.scaled_dot_product_attention` (timm and transformers), and softmax over the last of four dimensions (both of these
without fused attention). The model computes what it always does. The first function can be asked for its weights; the second keeps
none, and so that they are computed beside it.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cardgen.draws import generator
from cardgen.errors import CardgenError
from cardgen.forward import logits
from cardgen.repair import Unhooked, hooked

SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)
EXTRA = 16
"""Class and register tokens beside the patches at most; those of timm and transformers have up to ten."""
ROUNDING = 0.02
"""By how much the sum of a token's weights may miss 1, in bfloat16."""
Take = Callable[[Tensor], None]


class Tokens(NamedTuple):
    """What a vision transformer's tokens are.

    Attributes:
        grid: rows and columns of patches, which are the last tokens, row by row.
        extra: tokens before them: class, distillation and register tokens.
        read: tokens from which the last layer's attention is taken: those extra ones that move the scores, all patches where none does.
    """

    grid: tuple[int, int]
    extra: int
    read: list[int]


class _Call(NamedTuple):
    """One attention: its weights, and the tensor it gave, whose axis `axis` is the tokens'."""

    weights: Tensor
    output: Tensor
    axis: int


class _Seen(TorchFunctionMode):
    """Tells of every attention and every convolution."""

    def __init__(self, attention: Callable[[_Call], None], convolution: Take = lambda output: None) -> None:
        super().__init__()
        self.attention, self.convolution = attention, convolution

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            return self._of_heads(func, args, kwargs)
        found = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self.attention(_Call(_weights(*args, **kwargs), found, -2))
        elif func in SOFTMAX and found.ndim == 4 and kwargs.get("dim", *args[1:2]) in (-1, 3):
            self.attention(_Call(found, found, -2))
        elif func is F.conv2d:
            self.convolution(found)
        return found

    def _of_heads(self, func: Any, args: Any, asked: Any) -> tuple[Tensor, Tensor | None]:
        """The same output, up to rounding, whether weights are asked for or not."""
        output, weights = func(*args, **{**asked, "need_weights": True, "average_attn_weights": False})
        self.attention(_Call(weights, output, 0))
        if not asked.get("need_weights", True):
            return output, None
        return output, weights.mean(1) if asked.get("average_attn_weights", True) else weights


def _weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(Q Kᵀ · scale + mask) of fused attention, called as it is."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = query.float() @ key.float().mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones_like(scores, dtype=torch.bool).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1)


def each_layer(model: nn.Module, inputs: Float[Tensor, "n c h w"], take: Take) -> None:
    """Run the model; `take` gets every layer's attention `[n, heads, tokens, tokens]` in turn, in float32, rows summing to 1.

    Raises:
        CardgenError: weights of a token that do not sum to 1.
    """
    with _Seen(lambda call: take(_stochastic(call.weights))):
        logits(model, inputs)


def _stochastic(weights: Float[Tensor, "n heads t t"]) -> Float[Tensor, "n heads t t"]:
    weights = weights.float()
    sums = weights.sum(-1, keepdim=True)
    if not bool(((sums - 1).abs() < ROUNDING).all()):
        raise CardgenError(
            "a token's attention weights do not sum to 1; expected a softmax's; check the model's outputs for NaN"
        )
    return weights / sums


def patches(
    attention: Float[Tensor, "n t t"], tokens: Tokens, inputs: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n 1 h w"]:
    """The mean row of the tokens read, at the patches, upsampled to the inputs (bilinear, align_corners=False)."""
    rows = attention[:, tokens.read, tokens.extra :].mean(1)
    return F.interpolate(rows.reshape(-1, 1, *tokens.grid), size=inputs.shape[2:], mode="bilinear", align_corners=False)


def find_tokens(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> Tokens:
    """The tokens of a vision transformer for images of the example's size, found out by running it forth and back.

    Patches are what the last convolution before the first attention gives, or, without one, squares, as many as fit. Extra tokens come
    first. Which tokens are read is asked of the gradient of the scores at the last attention: a class token, two of a distilled
    model, or all patches where the head averages them. Where nothing moves the scores (a head of zeros), all extra tokens count as read.

    Raises:
        CardgenError: no attention, some that is not from every token of the image to every token, or no grid of patches.
    """
    calls: list[tuple[str, _Call]] = []
    convolved: list[tuple[int, ...]] = []
    names = {
        module: f"{type(module).__name__} ({name or 'the model itself'})" for name, module in model.named_modules()
    }
    stack = [model]

    def convolution(output: Tensor) -> None:
        if not calls:
            convolved.append(tuple(output.shape[2:]))

    def attention(call: _Call) -> None:
        calls.append((next(names[module] for module in reversed(stack) if not isinstance(module, nn.Softmax)), call))

    # one image for the model, whoever asks: of an image on which its head is dead no token moves the scores
    drawn = torch.randn(example.shape[1:], generator=generator("attention", *example.shape[1:]))
    image = drawn[None].to(example).requires_grad_()
    with torch.enable_grad(), hooked(list(names), stack.append, lambda _: stack.pop()), _Seen(attention, convolution):
        # this pass is no measurement, and hooks that count are not to see it
        scores = logits(Unhooked(model), image)
    count = _all_to_all([(name, tuple(call.weights.shape)) for name, call in calls])
    grid = _grid(convolved[-1:], count, (image.shape[2], image.shape[3]))
    extra = count - grid[0] * grid[1]
    moving = _moving(scores, calls[-1][1], count)
    return Tokens(grid, extra, [i for i in range(extra) if moving[i]] or list(range(extra, count)))


def _all_to_all(calls: list[tuple[str, tuple[int, ...]]]) -> int:
    """How many tokens there are in every layer."""
    if not calls:
        raise CardgenError(
            "no attention was found (nn.MultiheadAttention, scaled_dot_product_attention, or a softmax over [n, heads, tokens, tokens]); "
            "expected a vision transformer; leave methods of attention out"
        )
    count = calls[0][1][-1]
    for name, shape in calls:
        if len(shape) != 4 or (shape[0], *shape[2:]) != (1, count, count):
            kind = "within windows" if shape[0] > 1 else "not from every token of the image to every token"
            raise CardgenError(
                f"{name} attends {kind} (weights of shape {shape} for one image); expected [1, heads, tokens, tokens] in every layer, "
                "as in ViT, DeiT, BEiT, DINO; leave methods of attention out"
            )
    return count


def _grid(convolved: list[tuple[int, ...]], count: int, size: tuple[int, int]) -> tuple[int, int]:
    for height, width in convolved or _squares(*size):
        if 0 <= count - height * width <= EXTRA:
            return height, width
    place = (
        f"the last convolution before attention gives {convolved[0]}" if convolved else "no square patches give so many"
    )
    raise CardgenError(
        f"no grid of patches was found for {count} tokens: {place}; expected patches and at most {EXTRA} class and register tokens; "
        "leave methods of attention out"
    )


def _squares(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Grids of square patches, the finest first."""
    return ((height // side, width // side) for side in range(1, height + 1) if height % side == width % side == 0)


def _moving(scores: Tensor, last: _Call, count: int) -> list[bool]:
    """Which tokens' output of the last attention moves the scores; all where none does."""
    if not (scores.requires_grad and last.output.requires_grad):
        return [True] * count
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(scores.square().sum(), last.output, allow_unused=True)
    if gradient is None or not gradient.any():
        return [True] * count
    found: list[bool] = gradient.movedim(last.axis, 0).flatten(1).any(1).tolist()
    return found
