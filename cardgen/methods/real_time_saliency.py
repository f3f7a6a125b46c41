"""Real-time saliency: a masking network, trained once for the model, gives the mask of a class in one pass."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.maskers import SelectiveUNet, mask, trained
from cardgen.methods import Context, method
from cardgen.pyramid import feature_layers
from cardgen.recipes import Sibling
from cardgen.records import Source


@method(
    key="real_time_saliency",
    title="Real-Time Saliency",
    source=Source(
        paper="Dabkowski & Gal 2017", url="https://arxiv.org/abs/1705.07857", where="the masking model and its loss"
    ),
    access="features",
    signed=False,
    version=2,
    fits=feature_layers,
    siblings=(Sibling("masker", "real_time_saliency"),),
    passes=lambda parameters: 1,
)
def real_time_saliency(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """M, in [0, 1]: 1 where the image is to be kept so that the model gives the class, 0 where it can go. No unit, one forward pass.

    `context.masker`, a U-Net, makes it of the model's feature maps at up to four resolutions and of the class. It was trained to
    minimise λ₁ TV(M) + λ₂ mean M − log f_c(Φ(x, M)) + λ₃ f_c(Φ(x, 1 − M))^λ₄ on images with labels (`masker_losses.real_time_loss`), Φ
    hiding what M leaves out behind a blur or a colour with noise, and to leave the mask empty for classes that are not in the image. The
    feature maps are those of the model as it is at hand; the network stays as it was trained. Dabkowski & Gal 2017.

    Trained for `digit-cnn`, on its 600 test images: the mask as a detector of the digit's pixels has a mean average precision of 0.70,
    and covers 12 % of the image; the digit's probability is 0.96, 0.89 with what the mask keeps on the mean colour, 0.09 with what it
    leaves, 0.10 with the colour alone. Asked for another digit, it covers 0.3 %.

    `context.layer` has no part in it. Where network and training differ from the paper and the authors' code: `maskers.SelectiveUNet`,
    `masker_losses.real_time_loss`, `masker_training`.

    Raises:
        CardgenError: no masking network, or one of another method or model.
    """
    return mask(trained(SelectiveUNet, context.masker), model, inputs, targets)
