"""The high-resolution network after Wang et al. 2020, with its classification head (needs torch); no training code.

Branches of different resolution run side by side and exchange what they found; a head gathers all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from resnet50 import EXPANSION, Bottleneck
from torch import nn


@dataclass(frozen=True)
class Shape:
    """Channels of the finest branch (each coarser one has twice as many), blocks of a branch, exchanges of the stages
    with two, three and four branches, channels of the stem, inner channels of the head's first branch, its outputs."""

    width: int
    blocks: int
    exchanges: tuple[int, int, int]
    stem: int
    head: int
    outputs: int


FULL = Shape(width=18, blocks=4, exchanges=(1, 4, 3), stem=64, head=32, outputs=2048)
REDUCED = Shape(width=8, blocks=1, exchanges=(1, 1, 1), stem=16, head=8, outputs=256)


def convolution(channels_in: int, channels: int, kernel: int, stride: int = 1, active: bool = True) -> nn.Sequential:
    """Convolution, norm and, if `active`, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if active else nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels, 3)
        self.second = convolution(channels, channels, 3, active=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Feature maps of the same shape."""
        return F.relu(self.second(self.first(maps)) + maps)


class Exchange(nn.Module):
    """Blocks on each branch; then each branch gets the sum of all, brought to its resolution and channels."""

    def __init__(self, channels: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c) for _ in range(blocks))) for c in channels)
        count = range(len(channels))
        self.paths = nn.ModuleList(nn.ModuleList(_path(channels, src, to) for src in count) for to in count)

    def forward(self, branches: list[torch.Tensor]) -> list[torch.Tensor]:
        """The branches anew, in the same shapes."""
        branches = [blocks(maps) for blocks, maps in zip(self.branches, branches, strict=True)]
        gathered = []
        for to, paths in enumerate(self.paths):
            parts = [path(maps) for path, maps in zip(paths, branches, strict=True)]
            for source in range(to + 1, len(parts)):
                parts[source] = F.interpolate(parts[source], size=branches[to].shape[-2:], mode="nearest")
            gathered.append(F.relu(sum(parts[1:], parts[0])))
        return gathered


def _path(channels: Sequence[int], source: int, to: int) -> nn.Module:
    """From branch `source` to branch `to`; a coarser source still has to be enlarged afterwards."""
    if source == to:
        return nn.Identity()
    if source > to:
        return convolution(channels[source], channels[to], 1, active=False)
    halvings = [convolution(channels[source], channels[source], 3, 2) for _ in range(to - source - 1)]
    return nn.Sequential(*halvings, convolution(channels[source], channels[to], 3, 2, active=False))


class Stage(nn.Module):
    """Opens one more branch, half as fine as the coarsest so far, and lets all of them exchange."""

    def __init__(self, before: Sequence[int], channels: Sequence[int], blocks: int, exchanges: int) -> None:
        super().__init__()
        pairs = list(zip(before, channels, strict=False))
        self.kept = nn.ModuleList(nn.Identity() if a == b else convolution(a, b, 3) for a, b in pairs)
        self.opened = convolution(before[-1], channels[-1], 3, 2)
        self.exchanges = nn.Sequential(*(Exchange(channels, blocks) for _ in range(exchanges)))

    def forward(self, branches: list[torch.Tensor]) -> list[torch.Tensor]:
        """One branch more than before."""
        kept = [layer(maps) for layer, maps in zip(self.kept, branches, strict=True)]
        return self.exchanges([*kept, self.opened(branches[-1])])


class HighResolutionFeatures(nn.Module):
    """Maps [n, channels, h / 32, w / 32] in which all four branches are gathered."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(3, shape.stem, 3, 2), convolution(shape.stem, shape.stem, 3, 2))
        wide = EXPANSION * shape.stem
        self.first = nn.Sequential(Bottleneck(shape.stem, shape.stem), *(_wide(shape) for _ in range(shape.blocks - 1)))
        channels = [shape.width * 2**branch for branch in range(4)]
        before = [wide]
        self.stages = nn.ModuleList()
        for branches, exchanges in enumerate(shape.exchanges, start=2):
            self.stages.append(Stage(before, channels[:branches], shape.blocks, exchanges))
            before = channels[:branches]
        widths = [shape.head * 2**branch for branch in range(4)]
        self.raised = nn.ModuleList(Bottleneck(c, width) for c, width in zip(channels, widths, strict=True))
        raised = [EXPANSION * width for width in widths]
        self.halved = nn.ModuleList(_biased(a, b, 3, 2) for a, b in pairwise(raised))
        self.last = _biased(raised[-1], shape.outputs, 1)
        self.channels = shape.outputs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Feature maps of images [n, 3, h, w]."""
        branches = [self.first(self.stem(images))]
        for stage in self.stages:
            branches = stage(branches)
        raised = [block(maps) for block, maps in zip(self.raised, branches, strict=True)]
        maps = raised[0]
        for halve, finer in zip(self.halved, raised[1:], strict=True):
            maps = halve(maps) + finer
        return self.last(maps)


def _wide(shape: Shape) -> Bottleneck:
    return Bottleneck(EXPANSION * shape.stem, shape.stem)


def _biased(channels_in: int, channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """The head's convolutions keep their bias before the norm, as the published network has them."""
    layer = nn.Conv2d(channels_in, channels, kernel, stride, padding=kernel // 2)
    return nn.Sequential(layer, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
