"""Models that show nothing but their outputs."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cardgen.errors import CardgenError

Function = Callable[[Tensor], Tensor | np.ndarray]


class BlackBox(nn.Module):
    """A callable from inputs `[n, c, h, w]` to scores `[n, k]` before the softmax: no parameters, no gradients.

    Args:
        function: takes a detached tensor, returns a tensor or an array. Its device is its own affair: scores are moved to the
            inputs' device.
        identity: what tells it from other functions, such as a digest of its file; part of the digest of the model's weights.
    """

    def __init__(self, function: Function, identity: str = "") -> None:
        super().__init__()
        self._function = function
        self.identity = identity

    @torch.no_grad()
    def forward(self, inputs: Float[Tensor, "n c h w"]) -> Tensor:
        """The scores, detached, on the inputs' device.

        Raises:
            CardgenError: the function returned neither a tensor nor an array of numbers.
        """
        scores: object = self._function(inputs.detach())
        if isinstance(scores, np.ndarray) and scores.dtype.kind in "fiu":
            scores = torch.from_numpy(np.ascontiguousarray(scores))
        if not isinstance(scores, Tensor):
            kind = f"an array of {scores.dtype}" if isinstance(scores, np.ndarray) else type(scores).__name__
            raise CardgenError(
                f"the black box returned {kind}; expected a tensor or array of scores [n, classes]; "
                f"return these, the classes' logits, and nothing else"
            )
        return scores.detach().to(inputs.device)
