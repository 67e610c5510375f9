"""The siamese network over pre-order and post-order sequences (needs torch); no training code.

Two encoders read the two orders of a tree, a 1x1 convolution joins them, a third encoder reads the result, and a
convolution over the whole length makes a vector of it. Two programs are as alike as the angle between their vectors.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from _kit.gain import GainLinear
from torch import nn

PAD = 0
ATTENTION_DROPOUT = 0.1
CHANNELS = 4
EDGE = 1e-6


@dataclass(frozen=True)
class Shape:
    """Nodes per sequence, the sizes of each of the three encoders, the gain of their layers (see _kit.gain)."""

    length: int
    width: int
    layers: int
    heads: int
    inner: int
    gain: float = 1.0


def dense(inputs: int, outputs: int, gain: float) -> GainLinear:
    """A linear layer with Xavier's uniform weights (after the gain) and no bias at first."""
    layer = GainLinear(inputs, outputs, gain)
    nn.init.xavier_uniform_(layer.weight, gain=1 / gain)
    nn.init.zeros_(layer.bias)
    return layer


class Layer(nn.Module):
    """Self-attention and a two-layer network, each on the norm of its input, with dropout, added to its input."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm1 = nn.LayerNorm(shape.width)
        self.inputs = dense(shape.width, 3 * shape.width, shape.gain)
        for block in self.inputs.weight.chunk(3):
            nn.init.xavier_uniform_(block, gain=1 / shape.gain)
        self.output = dense(shape.width, shape.width, shape.gain)
        self.norm2 = nn.LayerNorm(shape.width)
        self.inner = dense(shape.width, shape.inner, shape.gain)
        self.outer = dense(shape.inner, shape.width, shape.gain)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """New states [n, length, width]; `mask` [n, 1, 1, length] is true where there is a node to look at."""
        states = states + self.dropout(self._attention(self.norm1(states), mask))
        return states + self.dropout(self.outer(self.dropout(F.relu(self.inner(self.norm2(states))))))

    def _attention(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        query, key, value = self.inputs(states).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        dropout = ATTENTION_DROPOUT if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.output(mixed.transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    """Layers and a last norm."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(shape, dropout) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """New states [n, length, width]."""
        for layer in self.layers:
            states = layer(states, mask)
        return self.norm(states)


class SequenceEncoder(nn.Module):
    """An encoder of labels: their vectors, their places, dropout, layers."""

    def __init__(self, vocabulary: int, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.scale = math.sqrt(shape.width)
        self.labels = nn.Embedding(vocabulary, shape.width)
        nn.init.xavier_uniform_(self.labels.weight)
        self.register_buffer("places", sinusoids(shape.length, shape.width), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.encoder = Encoder(shape, dropout)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """States [n, length, width] of label ids [n, length]."""
        return self.encoder(self.dropout(self.labels(ids) * self.scale + self.places), mask)


class SiameseNet(nn.Module):
    """Similarities of pairs; 2 * 128 * vocabulary + 1,191,431 parameters at full size.

    `vocabulary` counts the padding, id 0, too.
    """

    def __init__(self, vocabulary: int, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.before = SequenceEncoder(vocabulary, shape, dropout)
        self.behind = SequenceEncoder(vocabulary, shape, dropout)
        self.join = nn.Conv2d(2, 1, 1)
        self.joint = Encoder(shape, dropout)
        self.gather = nn.Conv2d(1, CHANNELS, (shape.length, 1))
        self.gain = shape.gain
        nn.init.xavier_uniform_(self.join.weight)
        nn.init.xavier_uniform_(self.gather.weight, gain=1 / shape.gain)

    def vectors(self, preorder: torch.Tensor, postorder: torch.Tensor) -> torch.Tensor:
        """A vector [n, 4 * width] for each program, from its two sequences [n, length]; no entry is negative."""
        present = preorder != PAD
        mask = present[:, None, None, :]
        orders = torch.stack((self.before(preorder, mask), self.behind(postorder, mask)), dim=1)
        states = self.joint(F.relu(self.join(orders)).squeeze(1), mask) * present[:, :, None]
        return F.relu(self.gather(states.unsqueeze(1) * self.gain)).flatten(1)

    def forward(self, preorder: torch.Tensor, postorder: torch.Tensor) -> torch.Tensor:
        """Similarities [n] from 0 to 1 of pairs of programs: sequences [n, 2, length]."""
        vectors = self.vectors(preorder.flatten(0, 1), postorder.flatten(0, 1)).float().unflatten(0, (-1, 2))
        # Just inside 0 and 1: at the very edge the cross-entropy of a wrong pair has no finite slope.
        return F.cosine_similarity(vectors[:, 0], vectors[:, 1], dim=1).clamp(EDGE, 1 - EDGE)


def sinusoids(length: int, width: int) -> torch.Tensor:
    """Sines and cosines [length, width] whose wave lengths grow geometrically from 2 pi to 10,000 * 2 pi."""
    place = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10_000.0) / width))
    return torch.stack((torch.sin(place * rate), torch.cos(place * rate)), dim=2).flatten(1)
