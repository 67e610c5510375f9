"""How each model is built and optimised: shapes by size, optimiser, schedule (needs torch); it runs no step."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from _kit import effective
from roberta import RobertaClassifier, RobertaShape
from text_cnn import CnnShape, TextCnn
from torch import nn

MLP_SHAPES = {
    "full": RobertaShape(vocabulary=50_000, length=1024, width=768, layers=12, heads=12, inner=3072),
    "reduced": RobertaShape(vocabulary=2_000, length=80, width=64, layers=1, heads=2, inner=128, gain=12.0),
}
CNN_SHAPES = {
    "full": CnnShape(vocabulary=50_000, width=768, channels=200, hidden=(256, 128)),
    "reduced": CnnShape(vocabulary=2_000, width=64, channels=64, hidden=(64, 32)),
}
MLP_MAX_NORM = 1.0


@dataclass(frozen=True)
class Recipe:
    """A model with what trains it.

    max_norm: gradients are cut to this length, None: never. keep_best: the weights with the lowest validation loss
    are tested, else the last ones. amp_on_cuda: the number format that the original uses on a GPU.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    max_norm: float | None
    keep_best: bool
    amp_on_cuda: str

    def learning_rate(self) -> float:
        """The peak learning rate in use: what the schedule starts from, if there is one."""
        read = effective.learning_rate if self.scheduler is None else effective.base_learning_rate
        return read(self.optimizer)

    def weight_decay(self) -> float:
        """The weight decay of the group that decays: the first."""
        return self.optimizer.param_groups[0]["weight_decay"]


def mlp(size: str, learning_rate: float, weight_decay: float, steps: int, device: torch.device) -> Recipe:
    """Adam whose rate falls linearly to 0 over `steps`; biases and norms do not decay.

    The decay is part of the gradient (L2). Decoupled as in AdamW it would scale the weights by 1 - rate * decay, which
    at 3e-5 * 1e-3 and less is 1 in float32: the hyperparameter would do nothing. Without decay both are the same.
    """
    model = RobertaClassifier(MLP_SHAPES[size]).to(device)
    groups = [
        {"params": _of_dimension(model, 2)},
        {"params": _of_dimension(model, 1), "weight_decay": 0.0},
    ]
    optimizer = torch.optim.Adam(groups, lr=learning_rate, weight_decay=weight_decay, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    return Recipe(model, optimizer, scheduler, MLP_MAX_NORM, keep_best=True, amp_on_cuda="float16")


def cnn(size: str, learning_rate: float, weight_decay: float, steps: int, device: torch.device) -> Recipe:
    """Adam at a constant rate; what is frozen is not given to it. `steps` does not matter."""
    model = TextCnn(CNN_SHAPES[size]).to(device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=learning_rate, weight_decay=weight_decay)
    return Recipe(model, optimizer, None, None, keep_best=False, amp_on_cuda="off")


RECIPES = {"mlp": mlp, "cnn": cnn}


def class_weights(labels: Iterable[int]) -> torch.Tensor:
    """Weights [2] that make both classes count alike: n / (2 * count)."""
    counts = torch.bincount(torch.as_tensor(labels, dtype=torch.long), minlength=2)
    return counts.sum() / (2 * counts.float())


def _of_dimension(model: nn.Module, dimensions: int) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.dim() == dimensions]
