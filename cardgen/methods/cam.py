"""CAM: feature maps weighted by the last layer's weights, where only global average pooling comes between them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.class_activation import explained, terms_of
from cardgen.draws import generator
from cardgen.errors import CardgenError
from cardgen.features import features_and_scores, last_features, leaves_after, replaced, slopes_at
from cardgen.forward import logits
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.repair import Unhooked

ADVICE = "expected global average pooling and one linear layer; use grad_cam, which asks for neither"

LARGE = 100
"""How far beyond a sample's feature maps the head is tried, so that hidden units, if there are any, switch."""


def require_pooled_linear_head(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
    """Refuse a model whose logits are no linear function of the means of its last feature maps.

    A sample's are replaced: by zeros, by random ones far larger, whose means differ as well, and by the negatives of these. The head is
    global average pooling and a linear layer, however written, if the gradient is the same at all of them and at all their pixels.

    Raises:
        CardgenError: it is something else; or the model has no last features.
    """
    layer = last_features(model, example)
    run, name = Unhooked(model), f"model.{layer}"
    maps, _ = features_and_scores(run, example, torch.zeros(1, dtype=torch.int64, device=example.device), name)
    draw = generator("cam", "head")
    drawn = torch.randn(maps.shape, generator=draw) + torch.randn(*maps.shape[:2], 1, 1, generator=draw)
    drawn = LARGE * drawn.to(maps) * maps.abs().amax().clamp_min(1)
    tried = torch.cat([maps, torch.zeros_like(maps), drawn, -drawn]).requires_grad_()
    with torch.enable_grad(), replaced(run, example, name, lambda _: tried.clone()):
        scores = logits(run, example.repeat(len(tried), 1, 1, 1))
        mix = torch.randn(scores.shape[1], generator=generator("cam", "classes")).to(scores)
        gradients = slopes_at(tried, (scores @ mix).sum(), layer)
    if not _constant(gradients, (0, 2, 3)):
        after = ", ".join(leaves_after(model, example, layer)) or "functions outside modules"
        raise CardgenError(
            f"class activation maps need a model that ends in global average pooling and one linear layer, and after its last features "
            f"({layer}) come {after}; {ADVICE}"
        )


def _constant(gradients: Tensor, axes: tuple[int, ...]) -> bool:
    """Whether gradients are the same along axes, up to rounding of their own type, and of the scores', which are float32."""
    apart = (gradients - gradients.float().mean(axes, keepdim=True)).abs().amax()
    eps = max(torch.finfo(gradients.dtype).eps, torch.finfo(torch.float32).eps)
    return bool(apart <= eps**0.5 * gradients.abs().amax())


def combine(maps: Float[Tensor, "n k u v"], gradients: Float[Tensor, "n k u v"]) -> Float[Tensor, "n u v"]:
    """The map at the feature maps' size."""
    return (gradients.sum((2, 3), keepdim=True) * maps).sum(1)


@method(
    key="cam",
    title="CAM",
    source=Source(paper="Zhou et al. 2016", url="https://arxiv.org/abs/1512.04150", where="section 2"),
    access="features",
    fits=require_pooled_linear_head,
    terms=terms_of(combine),
    passes=lambda parameters: 2,
)
def cam(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """Σ_k w_k A^k, enlarged (bilinear, align_corners=False), for networks whose logit is s_c = Σ_k w_k mean(A^k) + b.

    A^k are the last feature maps. Signed: the mean over the feature maps' pixels is s_c − b, and the paper has no ReLU. Units: logits.
    Zhou, Khosla, Lapedriza, Oliva, Torralba 2016, section 2, who sum over pixels where this averages, as networks do, and leave b out.

    w_k is taken as the sum of ∂s_c/∂A^k over the pixels, which there is the linear layer's weight: nothing need be known of how a network
    writes its pooling, dropout, scaling and linear layer. It costs a backward pass that ends at the feature maps.

    Raises:
        CardgenError: with the layer that was named, the gradient differs from pixel to pixel.
    """
    return explained(_checked, model, inputs, targets, context)


def _checked(maps: Tensor, gradients: Tensor) -> Tensor:
    if not _constant(gradients, (2, 3)):
        raise CardgenError(
            f"between the layer named and the scores there is more than averaging and a linear layer; {ADVICE}"
        )
    return combine(maps, gradients)
