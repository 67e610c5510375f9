"""Residual networks of bottleneck blocks after He et al. 2016 (needs torch): feature maps, no training code."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

EXPANSION = 4


@dataclass(frozen=True)
class Shape:
    """Blocks of each stage and the inner channels of the first; they double from stage to stage."""

    blocks: tuple[int, ...]
    width: int


FULL, REDUCED = Shape((3, 4, 6, 3), width=64), Shape((1, 1, 1, 1), width=16)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions added to their input; the 3x3 one may halve the maps."""

    def __init__(self, channels_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        channels = EXPANSION * width
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels or stride != 1:
            projection = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Feature maps [n, 4 * width, h / stride, w / stride]."""
        inner = F.relu(self.norm1(self.conv1(maps)))
        inner = F.relu(self.norm2(self.conv2(inner)))
        return F.relu(self.norm3(self.conv3(inner)) + self.shortcut(maps))


class ResidualFeatures(nn.Sequential):
    """Stem and four stages, the last one without halving: maps [n, channels, h / 16, w / 16]."""

    def __init__(self, shape: Shape) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(3, shape.width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(shape.width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        channels = shape.width
        for stage, depth in enumerate(shape.blocks):
            width = shape.width * 2**stage
            for block in range(depth):
                halves = block == 0 and stage in (1, 2)
                layers.append(Bottleneck(channels, width, 2 if halves else 1))
                channels = EXPANSION * width
        super().__init__(*layers)
        self.channels = channels
