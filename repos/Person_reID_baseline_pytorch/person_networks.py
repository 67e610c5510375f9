"""The three networks for telling persons apart: backbone, pooling, heads (needs torch); no training code.

`forward` gives logits for training, `features` the vectors by which images are compared.
"""

from dataclasses import dataclass

import torch
from densenet import FULL as DENSE_FULL
from densenet import REDUCED as DENSE_REDUCED
from densenet import DenseFeatures
from hrnet import FULL as HIGH_FULL
from hrnet import REDUCED as HIGH_REDUCED
from hrnet import HighResolutionFeatures
from resnet50 import FULL as RESIDUAL_FULL
from resnet50 import REDUCED as RESIDUAL_REDUCED
from resnet50 import ResidualFeatures
from torch import nn

PARTS = 6
UNUSED_CLASSES = 1000


@dataclass(frozen=True)
class Form:
    """Height and width of the images that go in, and the width of a head's hidden layer."""

    height: int
    width: int
    hidden: int


FORMS = {
    ("densenet121", "full"): Form(256, 128, 512),
    ("hrnet18", "full"): Form(256, 128, 512),
    ("pcb", "full"): Form(384, 192, 256),
    ("densenet121", "reduced"): Form(64, 32, 64),
    ("hrnet18", "reduced"): Form(64, 32, 64),
    ("pcb", "reduced"): Form(96, 48, 32),
}


class Head(nn.Module):
    """A dense layer, norm and dropout, then one logit for each person."""

    def __init__(self, inputs: int, hidden: int, persons: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.Dropout(dropout))
        self.logits = nn.Linear(hidden, persons)
        nn.init.kaiming_normal_(self.hidden[0].weight, mode="fan_out")
        nn.init.zeros_(self.hidden[0].bias)
        nn.init.normal_(self.logits.weight, std=0.001)
        nn.init.zeros_(self.logits.bias)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Logits [n, persons] of vectors [n, inputs]."""
        return self.logits(self.hidden(vectors))


class WholeBodyNet(nn.Module):
    """Features of the whole image, averaged, and one head."""

    def __init__(self, backbone: nn.Module, head: Head, unused: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.unused = unused
        self.heads = nn.ModuleList([head])

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The logits [n, persons], as the only element."""
        return (self.heads[0](self.backbone(images).mean(dim=(2, 3))),)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Vectors [n, 1, hidden] by which images are compared."""
        return self.heads[0].hidden(self.backbone(images).mean(dim=(2, 3)))[:, None]


class PartNet(nn.Module):
    """Features of six horizontal strips, each averaged, with a head of its own (Sun et al. 2018)."""

    def __init__(self, backbone: nn.Module, heads: list[Head], dropout: float, unused: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.unused = unused
        self.pool = nn.AdaptiveAvgPool2d((PARTS, 1))
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleList(heads)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Six logits [n, persons]."""
        strips = self.dropout(self.features(images))
        return tuple(head(strip) for head, strip in zip(self.heads, strips.unbind(dim=1), strict=True))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Vectors [n, 6, channels] by which images are compared."""
        return self.pool(self.backbone(images)).squeeze(3).transpose(1, 2)


def build(model: str, size: str, persons: int, dropout: float) -> WholeBodyNet | PartNet:
    """The network of that name; at full size it has as many parameters as the original.

    The original keeps the 1,000-way layers of densenet121 and resnet50 that it never uses; so does this.
    """
    form, full = FORMS[model, size], size == "full"
    if model == "pcb":
        backbone: nn.Module = ResidualFeatures(RESIDUAL_FULL if full else RESIDUAL_REDUCED)
    elif model == "densenet121":
        backbone = DenseFeatures(DENSE_FULL if full else DENSE_REDUCED)
    else:
        backbone = HighResolutionFeatures(HIGH_FULL if full else HIGH_REDUCED)
    channels = int(backbone.channels)
    _initialise(backbone)
    unused = nn.Linear(channels, UNUSED_CLASSES) if full and model != "hrnet18" else nn.Identity()
    if model == "pcb":
        heads = [Head(channels, form.hidden, persons, dropout) for _ in range(PARTS)]
        return PartNet(backbone, heads, dropout, unused)
    return WholeBodyNet(backbone, Head(channels, form.hidden, persons, dropout), unused)


def _initialise(backbone: nn.Module) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
