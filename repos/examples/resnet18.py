"""ResNet-18 without its classifier, for one-channel images (needs torch): 512 features an image.

After He et al. 2016: a 7x7 stem, four stages of two basic blocks (64, 128, 256, 512 channels), average pooling.
"""

import torch
import torch.nn.functional as F
from torch import nn

STAGE_CHANNELS = (64, 128, 256, 512)
FEATURES = STAGE_CHANNELS[-1]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            projection = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Feature maps [n, channels, h / stride, w / stride]."""
        inner = F.relu(self.norm1(self.conv1(maps)))
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(maps))


class ResNet18(nn.Module):
    """The feature extractor: 11,170,240 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        self.norm1 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        blocks: list[nn.Module] = []
        channels_in = 64
        for channels in STAGE_CHANNELS:
            stride = 1 if channels == channels_in else 2
            blocks += [BasicBlock(channels_in, channels, stride), BasicBlock(channels, channels, 1)]
            channels_in = channels
        self.blocks = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [n, 512] of images [n, 1, 28, 28]."""
        maps = self.pool(F.relu(self.norm1(self.conv1(images))))
        return self.blocks(maps).mean(dim=(2, 3))
