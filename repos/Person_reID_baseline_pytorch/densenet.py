"""Densely connected convolutional networks after Huang et al. 2017 (needs torch): feature maps, no training code."""

from dataclasses import dataclass

import torch
from torch import nn

BOTTLENECK = 4


@dataclass(frozen=True)
class Shape:
    """Layers of each dense block, channels that each layer adds, channels of the stem."""

    blocks: tuple[int, ...]
    growth: int
    stem: int


FULL, REDUCED = Shape((6, 12, 24, 16), growth=32, stem=64), Shape((2, 4, 4, 2), growth=8, stem=16)


def normalised_convolution(channels_in: int, channels: int, kernel: int) -> nn.Sequential:
    """Norm, ReLU, convolution: the order of dense layers."""
    return nn.Sequential(
        nn.BatchNorm2d(channels_in),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels_in, channels, kernel, padding=kernel // 2, bias=False),
    )


class DenseLayer(nn.Module):
    """A 1x1 and a 3x3 convolution; what comes out is put beside what went in."""

    def __init__(self, channels_in: int, growth: int) -> None:
        super().__init__()
        inner = BOTTLENECK * growth
        self.narrow = normalised_convolution(channels_in, inner, 1)
        self.grow = normalised_convolution(inner, growth, 3)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Feature maps [n, channels_in + growth, h, w]."""
        return torch.cat((maps, self.grow(self.narrow(maps))), dim=1)


class DenseFeatures(nn.Sequential):
    """Stem, dense blocks with halving transitions between them, last norm: maps [n, channels, h / 32, w / 32]."""

    def __init__(self, shape: Shape) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(3, shape.stem, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(shape.stem),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        channels = shape.stem
        for number, depth in enumerate(shape.blocks):
            if number:
                layers += [normalised_convolution(channels, channels // 2, 1), nn.AvgPool2d(2)]
                channels //= 2
            for _ in range(depth):
                layers.append(DenseLayer(channels, shape.growth))
                channels += shape.growth
        super().__init__(*layers, nn.BatchNorm2d(channels))
        self.channels = channels
