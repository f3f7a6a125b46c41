"""Attention of vision transformers from the papers' formulas, one image, one head and one pair of tokens at a time in float64."""

import math

import torch

from reference.methods import upsampled
from reference.network import exact


def attention(tokens, weight, bias, heads):
    """A[h, i, j] = softmax over j of q_i·k_j / √d, from the stacked projections to queries, keys and values. Vaswani et al. 2017."""
    count, width = tokens.shape
    size = width // heads
    projected = tokens.double() @ weight.double().T + bias.double()
    found = torch.zeros(heads, count, count, dtype=torch.float64)
    for head in range(heads):
        query = projected[:, head * size : (head + 1) * size]
        key = projected[:, width + head * size : width + (head + 1) * size]
        for i in range(count):
            scores = [float(query[i] @ key[j]) / math.sqrt(size) for j in range(count)]
            total = sum(math.exp(score) for score in scores)
            for j in range(count):
                found[head, i, j] = math.exp(scores[j]) / total
    return found


def layers(model, image):
    """The attention of every layer of torchvision's VisionTransformer, which is run here by hand."""
    model = exact(model)
    with torch.no_grad():
        patches = model.conv_proj(image.double()[None])[0].flatten(1).T
        tokens = torch.cat([model.class_token[0], patches]) + model.encoder.pos_embedding[0]
        found = []
        for block in model.encoder.layers:
            normed, own = block.ln_1(tokens), block.self_attention
            weights = attention(normed, own.in_proj_weight, own.in_proj_bias, own.num_heads)
            values = (normed @ own.in_proj_weight.T + own.in_proj_bias)[:, -normed.shape[1] :].chunk(own.num_heads, 1)
            mixed = torch.cat([weights[head] @ values[head] for head in range(own.num_heads)], 1)
            tokens = tokens + mixed @ own.out_proj.weight.T + own.out_proj.bias
            tokens = tokens + block.mlp(block.ln_2(tokens))
            found.append(weights)
    return found


def mean_of_heads(weights):
    """The mean over heads."""
    return sum(weights) / len(weights)


def last_layer(found):
    """The last layer's attention."""
    return mean_of_heads(found[-1])


def rollout(found):
    """Ã_l = ½ (A_l + I) Ã_{l−1}: equation 1 of Abnar and Zuidema 2020, entry by entry."""
    rolled = None
    for weights in found:
        mean = mean_of_heads(weights)
        count = len(mean)
        mixed = [[0.5 * float(mean[i, j]) + 0.5 * (i == j) for j in range(count)] for i in range(count)]
        if rolled is not None:
            mixed = [
                [sum(mixed[i][k] * rolled[k][j] for k in range(count)) for j in range(count)] for i in range(count)
            ]
        rolled = mixed
    return torch.tensor(rolled, dtype=torch.float64)


def class_row(matrix):
    """What the class token, the first, has of every patch."""
    return matrix[0, 1:]


def heat_map(matrix, side, height, width):
    """The class token's row as a picture."""
    return upsampled(class_row(matrix).reshape(side, side), height, width)
