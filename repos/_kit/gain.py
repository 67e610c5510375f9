"""A linear layer that learns faster than its learning rate says (needs torch), for reduced models.

A reduced model has narrow layers and takes few steps: at a learning rate chosen for the full model it would hardly
move. This layer multiplies its input by `gain`, and its initial weights are to be that much smaller. Its outputs are
then what they would be without, but a step of an optimiser like Adam moves them `gain` times as far. The learning
rate stays what was asked for. With a gain of 1, that of every full model, it is a plain linear layer.
"""

import torch
from torch import nn


class GainLinear(nn.Linear):
    """nn.Linear with a gain; whoever builds it draws the weights for the product of weight and gain."""

    def __init__(self, inputs: int, outputs: int, gain: float = 1.0) -> None:
        super().__init__(inputs, outputs)
        self.gain = gain

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Outputs [..., outputs] of inputs [..., inputs]."""
        return super().forward(states if self.gain == 1 else states * self.gain)
