"""Phang's masker: a masking network, trained once for the model, gives one mask for all classes in one pass."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.maskers import ParallelMasker, mask, trained
from cardgen.methods import Context, method
from cardgen.pyramid import feature_layers
from cardgen.recipes import Sibling
from cardgen.records import Source


@method(
    key="phang_masker",
    title="Phang's Masker",
    source=Source(
        paper="Phang, Park & Geras 2020", url="https://arxiv.org/abs/2010.09750", where="the final model, variant FIX"
    ),
    access="features",
    signed=False,
    version=2,
    class_specific=False,
    fits=feature_layers,
    siblings=(Sibling("masker", "phang_masker"),),
    passes=lambda parameters: 1,
)
def phang_masker(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n 1 h w"]:
    """M, in [0, 1]: 1 where the image is to be kept so that the model can classify it, whatever the class. No unit, one forward pass.

    `context.masker` makes it of the feature maps of the two deepest of up to four resolutions. It was trained on images with labels so
    that the model classifies what M keeps, is as unsure as can be (entropy) of what is left without it, and M is small and smooth
    (`masker_losses.phang_loss`); what is hidden shows the mean colour. The feature maps are those of the model as it is at
    hand; the network stays as it was trained. Phang, Park & Geras 2020.

    Trained for `digit-cnn`, on its 600 test images: the mask as a detector of the digit's pixels has a mean average precision of 0.84,
    and covers 9 % of the image; the digit's probability is 0.96, 0.90 with what the mask keeps, 0.15 with what it leaves.

    Of the paper's variants this is FIX, whose classifier stays as it is. CA, which trains the classifier along with the mask, finds
    objects better, and explains another model than the one that was asked about. `context.layer` has no part in it. Where the network
    differs from the authors' code: `maskers.ParallelMasker`.

    Raises:
        CardgenError: no masking network, or one of another method or model.
    """
    return mask(trained(ParallelMasker, context.masker), model, inputs, targets)
