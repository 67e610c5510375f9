"""Reads hyperparameters back from the objects that use them (needs torch), for the `config` event.

What is reported is what trains, not what was asked for: a value that a preset overrode shows up here.
"""

from collections.abc import Iterable

import torch
from torch import nn


def learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate that all parameter groups share, read before the first scheduler step."""
    return _shared(optimizer, "lr")


def shared_learning_rate(optimizers: Iterable[torch.optim.Optimizer]) -> float:
    """The learning rate that several optimisers have in common."""
    return _one({learning_rate(optimizer) for optimizer in optimizers}, "lr")


def base_learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate that a schedule multiplies, shared by all groups; there must be a schedule on the optimizer."""
    return _shared(optimizer, "initial_lr")


def weight_decay(optimizer: torch.optim.Optimizer) -> float:
    """The weight decay that all parameter groups share."""
    return _shared(optimizer, "weight_decay")


def momentum(optimizer: torch.optim.Optimizer) -> float:
    """The momentum that all parameter groups share."""
    return _shared(optimizer, "momentum")


def dropout(model: nn.Module) -> float:
    """The probability that all dropout modules of the model share."""
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d)
    return _one({module.p for module in model.modules() if isinstance(module, kinds)}, "dropout")


def parameter_count(model: nn.Module, trainable: bool = False) -> int:
    """The number of parameters; only those that train if `trainable`."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def _shared(optimizer: torch.optim.Optimizer, key: str) -> float:
    return _one({group[key] for group in optimizer.param_groups}, key)


def _one(values: set[float], name: str) -> float:
    if len(values) != 1:
        raise ValueError(f"{name} has not one value in this model: {sorted(values)}")
    return values.pop()
