"""New initial weights for a model of any architecture."""

import torch
from torch import nn

from cardgen.weights import reset


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """New weights for every module: He-normal for convolutions and linear layers (He et al. 2015), zero biases.

    Normalisation layers are reset by their own `reset_parameters`, which draws nothing. Parameters of other modules are drawn
    as `cardgen.weights.reset` does, from the seed that the generator was given. All draws are made on the CPU.
    """
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if isinstance(module, nn.Conv2d | nn.Linear) and "weight" in own:
            weight = torch.empty(module.weight.shape)
            module.weight.data.copy_(nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
            module.reset_parameters()
        elif own or any(True for _ in module.buffers(recurse=False)):
            _reset(model, name, generator.initial_seed())


def _reset(model: nn.Module, name: str, seed: int) -> None:
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    for key, value in reset(model, name, seed, draw=0).items():
        tensors[key].data.copy_(value)
