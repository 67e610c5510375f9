"""Mixed precision for a training loop (needs torch): which number format, the scaled backward pass, the step."""

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch

from _kit.errors import UsageError


class Precision:
    """One number format for the forward pass; weights and optimiser state stay float32.

    `choice` is one of options.PRECISIONS; "auto" is `on_cuda` on a GPU and "off" elsewhere. float16 scales the loss,
    so that small gradients survive; a step whose gradients overflowed is skipped and the scale halved.
    """

    def __init__(self, choice: str, device: torch.device, on_cuda: str = "off") -> None:
        if choice == "auto":
            choice = on_cuda if device.type == "cuda" else "off"
        if choice == "float16" and device.type != "cuda":
            raise UsageError("--amp float16 needs a GPU; use --amp bfloat16 or --amp off on the CPU")
        self.name = "float32" if choice == "off" else choice
        self._device = device
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.name == "float16")

    def autocast(self) -> AbstractContextManager[None]:
        """The context for forward pass and loss."""
        mixed = self.name != "float32"
        return torch.autocast(self._device.type, dtype=getattr(torch, self.name) if mixed else None, enabled=mixed)

    def step(
        self,
        loss: torch.Tensor,
        optimizer: torch.optim.Optimizer,
        clip: Iterable[torch.Tensor] = (),
        max_norm: float | None = None,
    ) -> bool:
        """Backward pass and optimiser step, the gradients of `clip` cut to `max_norm`; False if it was skipped."""
        optimizer.zero_grad()
        self._scaler.scale(loss).backward()
        if max_norm is not None:
            self._scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(clip, max_norm)
        scale = self._scaler.get_scale()
        self._scaler.step(optimizer)
        self._scaler.update()
        return not self._scaler.get_scale() < scale
