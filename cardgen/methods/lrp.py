"""Layer-wise relevance propagation: the score handed back through the network, each layer sharing it among its inputs by a rule."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from cardgen.errors import CardgenError
from cardgen.methods import Context, method
from cardgen.records import Source
from cardgen.relevance import Layer, Relevance, alpha_beta_rule, epsilon_rule, relevance_of
from cardgen.rules import Ruled, require_same
from cardgen.space import UNNORMALISED, Space


class _Composite(Relevance):
    title = "LRP"

    def __init__(self, space: Space, rules: str, alpha: float, epsilon: float) -> None:
        super().__init__(space)
        self.plain, self.alpha, self.epsilon = rules == "epsilon", alpha, epsilon

    def layer(self, name: str, layer: Layer, relevance: Tensor, value: Tensor) -> Tensor:
        if self.plain or name == "linear":
            return epsilon_rule(layer, relevance, self.epsilon)
        return alpha_beta_rule(layer, relevance, self.alpha)

    def first_layer(self, layer: Layer, relevance: Tensor, value: Tensor, low: Tensor, high: Tensor) -> Tensor:
        if self.plain:
            return layer.inputs.detach() * epsilon_rule(layer, relevance, self.epsilon)
        return super().first_layer(layer, relevance, value, low, high)


def require_rules(model: nn.Module, example: Float[Tensor, "1 c h w"]) -> None:
    """Refuse a model with something for which there is no rule.

    Raises:
        CardgenError: such a model; the first thing without a rule is named.
    """
    require_same(model, _Composite(UNNORMALISED, "composite", 1.0, 1e-6), example)


@method(
    key="lrp",
    title="Layer-wise Relevance Propagation",
    source=Source(
        paper="Bach et al. 2015", url="https://doi.org/10.1371/journal.pone.0130140", where="equations 58 and 60"
    ),
    access="internals",
    ranges={"rules": ("composite", "epsilon"), "alpha": (1.0, 2.0), "epsilon": (1e-6, 1e-2, 1.0)},
    fits=require_rules,
    passes=lambda parameters: 2,
)
def lrp(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int[Tensor, " n"],
    context: Context,
    *,
    rules: str = "composite",
    alpha: float = 1.0,
    epsilon: float = 1e-6,
) -> Float[Tensor, "n c h w"]:
    """R of the image, from R = s_c at the output: each layer hands the relevance R_j of its outputs to its inputs i by a rule.

    - Linear layers, LRP-ε: R_i = Σ_j a_i w_ij / (z_j + ε sign z_j) · R_j, z_j = Σ_i a_i w_ij + b_j (Bach et al. 2015, equation 58).
    - Convolutions, LRP-αβ: R_i = Σ_j (α (a_i w_ij)⁺ / z_j⁺ − β (a_i w_ij)⁻ / z_j⁻) · R_j with β = α − 1, z_j^± the sums of these parts and
      of the bias's (equation 60).
    - The first layer, the z^B-rule for values between the bounds l and h of the space:
      R_i = Σ_j (x_i w_ij − l_i w_ij⁺ − h_i w_ij⁻) / Σ_i (…) · R_j (Montavon et al. 2017).

    Batch normalisation right after a layer is merged into its weights first; activations pass relevance on unchanged; the larger input
    of a max pool takes all; averages and additions, those of residual blocks too, share in proportion to their summands. Biases keep
    what falls to them, and so does a value below zero, of a convolution without ReLU, to which nothing adds (0.4 of a random ShuffleNet's
    score); the sum of R is s_c only where there are none of these. Signed: what speaks for the class is positive. Units: logits.

    Bach et al. give rules and do not say which layer takes which. That a mixture is better than one rule everywhere is from Kohlbrenner et
    al. 2020, who take α = 1, β = 0 for convolutions and ε for linear layers, and Montavon et al. 2019, who take γ-rules for the former; the
    rule for pixels is from Montavon et al. 2017, where some take relevance spread evenly ("flat"). With `rules="epsilon"` and ε → 0, and
    without biases, LRP is the gradient times the input.

    Written anew: captum 0.9 stops at nn.Flatten, has neither z^B nor α = 2, gives a map for modules that run twice though it says that it
    cannot, and takes batch normalisation for a layer of its own, so that the map depends on how one network is written down. A model
    with something for which there is no rule (softmax, layer normalisation, GELU, products of two parts that both depend on the image,
    batch normalisation that follows no layer) is refused.

    Args:
        rules: composite, as above; or epsilon, LRP-ε in all layers, the first one too.
        alpha: weight α of what speaks for, at least 1; β = α − 1. Bach et al. use 2 as well.
        epsilon: ε, which keeps denominators from zero; larger ones also take relevance from weak outputs, and it is lost.

    Raises:
        CardgenError: unknown rules, α below 1, a negative ε, inputs that leave their space.
    """
    if rules not in ("composite", "epsilon"):
        raise CardgenError(f"lrp: rules are {rules!r}; expected composite or epsilon; choose one of these")
    if alpha < 1 or epsilon < 0:
        raise CardgenError(
            f"lrp: alpha {alpha} and epsilon {epsilon}; expected alpha of at least 1 and epsilon of at least 0; choose such"
        )
    if rules == "composite":
        context.space.check(inputs)
    return relevance_of(Ruled(model, _Composite(context.space, rules, alpha, epsilon)), inputs, targets)
