"""mlp: a transformer encoder of RoBERTa's shape with a dense head for two classes (needs torch); no training code."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from _kit.gain import GainLinear
from bpe import PAD
from torch import nn

INITIAL_DEVIATION = 0.02
NORM_EPSILON = 1e-5
DROPOUT = 0.1


@dataclass(frozen=True)
class RobertaShape:
    """Ids in the vocabulary, the longest sequence, the sizes of the encoder, the gain of its layers (see _kit.gain)."""

    vocabulary: int
    length: int
    width: int
    layers: int
    heads: int
    inner: int
    gain: float = 1.0


def dense(inputs: int, outputs: int, gain: float) -> GainLinear:
    """A linear layer with normal weights and no bias at first; with a gain, sqrt(gain) times as large after it."""
    layer = GainLinear(inputs, outputs, gain)
    nn.init.normal_(layer.weight, std=INITIAL_DEVIATION / gain**0.5)
    nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Multi-head self-attention with dropout on the weights."""

    def __init__(self, width: int, heads: int, gain: float) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = dense(width, 3 * width, gain)
        self.output = dense(width, width, gain)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """New states [n, length, width]; `mask` [n, 1, 1, length] is true where there is a token to look at."""
        query, key, value = self.inputs(states).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        dropout = DROPOUT if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.output(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention and a two-layer network, each with dropout, a sum with its input, and a norm after that."""

    def __init__(self, shape: RobertaShape) -> None:
        super().__init__()
        self.attention = Attention(shape.width, shape.heads, shape.gain)
        self.norm1 = nn.LayerNorm(shape.width, eps=NORM_EPSILON)
        self.inner = dense(shape.width, shape.inner, shape.gain)
        self.outer = dense(shape.inner, shape.width, shape.gain)
        self.norm2 = nn.LayerNorm(shape.width, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """New states [n, length, width]."""
        states = self.norm1(states + self.dropout(self.attention(states, mask)))
        return self.norm2(states + self.dropout(self.outer(F.gelu(self.inner(states)))))


class RobertaClassifier(nn.Module):
    """Two logits from the state of the first token, <s>; 124,836,866 parameters at full size."""

    def __init__(self, shape: RobertaShape) -> None:
        super().__init__()
        self.words = nn.Embedding(shape.vocabulary, shape.width, padding_idx=PAD)
        # Positions count from PAD + 1, as RoBERTa does it: PAD itself is the position of padding.
        self.positions = nn.Embedding(shape.length + PAD + 1, shape.width, padding_idx=PAD)
        self.kinds = nn.Embedding(1, shape.width)
        self.norm = nn.LayerNorm(shape.width, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(DROPOUT)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.dense = dense(shape.width, shape.width, shape.gain)
        self.output = dense(shape.width, 2, shape.gain)
        self.apply(_initialise)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits [n, 2] of token ids [n, length]."""
        present = ids != PAD
        positions = present.cumsum(dim=1, dtype=torch.int32) * present + PAD
        states = self.dropout(self.norm(self.words(ids) + self.positions(positions) + self.kinds.weight[0]))
        mask = present[:, None, None, :]
        for layer in self.layers:
            states = layer(states, mask)
        hidden = torch.tanh(self.dense(self.dropout(states[:, 0])))
        return self.output(self.dropout(hidden))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_DEVIATION)
        if module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
