"""Deep Taylor decomposition: the score handed back through a ReLU network so that every pixel's share is positive and none is lost."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.relevance import Positive, relevance_of
from cardgen.rules import Ruled, require_same
from cardgen.space import UNNORMALISED


class _Taylor(Positive):
    title = "deep Taylor decomposition"


def require_relu_network(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
    """Refuse a model with something for which there is no rule.

    Raises:
        CardgenError: such a model; the first thing without a rule is named.
    """
    require_same(model, _Taylor(UNNORMALISED), example)


@method(
    key="deep_taylor",
    title="Deep Taylor Decomposition",
    source=Source(paper="Montavon et al. 2017", url="https://arxiv.org/abs/1512.02479", where="sections 4 and 5"),
    access="internals",
    signed=False,
    fits=require_relu_network,
    passes=lambda parameters: 2,
)
def deep_taylor(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], targets: Int[Tensor, " n"], context: Context
) -> Float[Tensor, "n c h w"]:
    """R of the image, from R = |s_c| at the output; never negative, and Σ R = |s_c|.

    Each layer hands the relevance R_j of its outputs to its inputs, by a first-order expansion about a root point found in their domain:

    - layers on activations, the z⁺-rule: R_i = Σ_j a_i w_ij⁺ / Σ_i a_i w_ij⁺ · R_j;
    - the layer on the image, the z^B-rule: R_i = Σ_j (x_i w_ij − l_i w_ij⁺ − h_i w_ij⁻) / Σ_i (x_i w_ij − l_i w_ij⁺ − h_i w_ij⁻) · R_j,
      with the bounds l and h of the space.

    Sums, averages and additions share among summands of their sign in proportion; the larger input of a max pool takes all; ReLUs pass
    relevance on unchanged; batch normalisation right after a layer is merged into it. Montavon, Lapuschkin, Binder, Samek, Müller 2017.
    Units: logits.

    The paper takes scores and activations to be positive and biases not to be. Here a negative score starts with its size, so that
    the largest share still is what speaks most for the class. Biases are left out of the sums, as in the paper, whatever their sign.
    Activations below zero, which residual blocks add up, share (a_i w_ij)⁺; where such a value itself has relevance, as behind
    convolutions without ReLU, it shares among what makes it negative, as the value with the other sign would. Relevance is lost only
    where an output that has some gets nothing of its sign from any input, that is from its bias alone. Networks with other activations
    than ReLU are refused.

    Raises:
        CardgenError: inputs that leave their space.
    """
    context.space.check(inputs)
    found = relevance_of(Ruled(model, _Taylor(context.space)), inputs, targets)
    return found * found.sum((1, 2, 3), keepdim=True).sign()
