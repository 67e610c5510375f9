"""Residual networks for small colour images after He et al. 2016, section 4.2 (needs torch); no training code."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

BLOCKS_PER_STAGE = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18, "resnet1202": 200}


@dataclass(frozen=True)
class Shape:
    """The channels of the three stages, and how many blocks a stage has at most; the depth is 6 x blocks + 2."""

    channels: tuple[int, int, int]
    most_blocks: int


FULL, REDUCED = Shape((16, 32, 64), most_blocks=200), Shape((8, 16, 32), most_blocks=22)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; where the shape changes, the shortcut drops every other pixel and pads with zeros."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - channels_in

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Feature maps [n, channels, h / stride, w / stride]."""
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(maps)))))
        return F.relu(inner + self._shortcut(maps))

    def _shortcut(self, maps: torch.Tensor) -> torch.Tensor:
        if self.new_channels == 0:
            return maps
        before = self.new_channels // 2
        return F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before))


class ResNet(nn.Module):
    """One convolution, three stages of `blocks` basic blocks (at most as many as the shape has), average pooling, ten
    classes."""

    def __init__(self, blocks: int, shape: Shape = FULL) -> None:
        super().__init__()
        first = shape.channels[0]
        self.conv1 = nn.Conv2d(3, first, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(first)
        layers: list[nn.Module] = []
        channels_in = first
        for channels in shape.channels:
            for _ in range(min(blocks, shape.most_blocks)):
                layers.append(BasicBlock(channels_in, channels, 1 if channels == channels_in else 2))
                channels_in = channels
        self.blocks = nn.Sequential(*layers)
        self.linear = nn.Linear(channels_in, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [n, 10] of images [n, 3, h, w]."""
        maps = self.blocks(F.relu(self.norm1(self.conv1(images))))
        return self.linear(maps.mean(dim=(2, 3)))
