"""cnn: convolutions of three widths over frozen word vectors, for two classes (needs torch); no training code."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from bpe import PAD
from torch import nn

KERNELS = (3, 4, 5)
DROPOUT = 0.5


@dataclass(frozen=True)
class CnnShape:
    """Ids in the vocabulary and the sizes of the layers."""

    vocabulary: int
    width: int
    channels: int
    hidden: tuple[int, int]


class TextCnn(nn.Module):
    """Two logits from the strongest responses of each filter; 2,030,810 trainable parameters at full size.

    The word vectors are drawn once and stay as they are.
    """

    def __init__(self, shape: CnnShape) -> None:
        super().__init__()
        self.words = nn.Embedding(shape.vocabulary, shape.width, padding_idx=PAD)
        self.words.weight.requires_grad_(False)
        self.convolutions = nn.ModuleList(nn.Conv1d(shape.width, shape.channels, kernel) for kernel in KERNELS)
        self.dropout = nn.Dropout(DROPOUT)
        self.linear1 = nn.Linear(shape.channels * len(KERNELS), shape.hidden[0])
        self.linear2 = nn.Linear(*shape.hidden)
        self.output = nn.Linear(shape.hidden[1], 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits [n, 2] of token ids [n, length]."""
        vectors = self.words(ids).transpose(1, 2)
        strongest = [F.relu(convolution(vectors)).amax(dim=2) for convolution in self.convolutions]
        hidden = F.relu(self.linear1(self.dropout(torch.cat(strongest, dim=1))))
        return self.output(self.dropout(F.relu(self.linear2(hidden))))
