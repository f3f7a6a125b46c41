"""Models that show nothing but their outputs."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


class BlackBox(nn.Module):
    """A callable from inputs `[n, c, h, w]` to scores `[n, k]`."""

    def __init__(self, function: Callable[[Tensor], Tensor | np.ndarray]) -> None:
        super().__init__()
        self._function = function

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.as_tensor(self._function(inputs.detach())).to(inputs.device)
