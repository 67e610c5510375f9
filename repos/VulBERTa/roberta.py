"""mlp: a transformer encoder of RoBERTa's shape with a dense head for two classes (needs torch); no training code.

A narrow model learns hardly anything at a learning rate chosen for width 768: in a sum over fewer inputs the same
step of each weight moves the output less. So a narrow layer multiplies its input by 768 / width and starts from
weights that much smaller (the maximal update parametrisation); at full size the factor is 1 and changes nothing.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from bpe import PAD
from torch import nn

INITIAL_DEVIATION = 0.02
NORM_EPSILON = 1e-5
DROPOUT = 0.1
BASE_WIDTH = 768


@dataclass(frozen=True)
class RobertaShape:
    """Ids in the vocabulary, the longest sequence, and the sizes of the encoder."""

    vocabulary: int
    length: int
    width: int
    layers: int
    heads: int
    inner: int


class Dense(nn.Linear):
    """A linear layer of a model of some `width`, with the factor for narrow models."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        self.factor = BASE_WIDTH / width
        super().__init__(inputs, outputs)

    def reset_parameters(self) -> None:
        """Draw weights that, multiplied by the factor, deviate by INITIAL_DEVIATION * sqrt(factor)."""
        nn.init.normal_(self.weight, std=INITIAL_DEVIATION / self.factor**0.5)
        nn.init.zeros_(self.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Outputs [..., outputs] of inputs [..., inputs]."""
        return super().forward(states if self.factor == 1 else states * self.factor)


class Attention(nn.Module):
    """Multi-head self-attention with dropout on the weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = Dense(width, 3 * width, width)
        self.output = Dense(width, width, width)

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
        self.attention = Attention(shape.width, shape.heads)
        self.norm1 = nn.LayerNorm(shape.width, eps=NORM_EPSILON)
        self.inner = Dense(shape.width, shape.inner, shape.width)
        self.outer = Dense(shape.inner, shape.width, shape.width)
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
        self.dense = Dense(shape.width, shape.width, shape.width)
        self.output = Dense(shape.width, 2, shape.width)
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
