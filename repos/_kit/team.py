"""The processes of one training, one a GPU, that torchrun has started (needs torch); a training alone is a team of one.

Every process draws the same random numbers and takes its share of each batch, so that a step is one over the whole
batch; gradients are averaged with each share's weight. Process 0 speaks for all (see `_kit.events`). They meet by a
file in the working directory and talk over loopback: nothing can be reached from other machines.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from _kit.events import rank


class Team:
    """`rank`: which of the `size` processes this is, from 0."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    @property
    def speaks(self) -> bool:
        """Whether this process tells what the training does."""
        return self.rank == 0

    def wrapped(self, model: nn.Module) -> nn.Module:
        """`model`, whose gradients are averaged over the team after each backward pass."""
        return model if self.size == 1 else nn.parallel.DistributedDataParallel(model)

    def share(self, *rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """This process's rows of each tensor."""
        return rows if self.size == 1 else tuple(tensor[self.rank :: self.size] for tensor in rows)

    def weight(self, own: int, everybody: int) -> float:
        """What the mean loss over `own` rows is multiplied with, so that the team's average of the gradients is that of
        the mean over the rows of `everybody`."""
        return own * self.size / everybody

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """The sums of `values` over the team."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def agree(self, model: nn.Module) -> None:
        """Give every process the running statistics of process 0: each has seen other rows."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


@contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """The team that torchrun has started, all of which are waited for; one without torchrun."""
    size = int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    if size == 1:
        yield Team(0, 1)
        return
    for variable in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        os.environ.setdefault(variable, "lo")
    name = f"processes-{os.environ['TORCHELASTIC_RUN_ID']}-{os.environ['TORCHELASTIC_RESTART_COUNT']}"
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{Path.cwd() / name}", rank=rank(), world_size=size)
    try:
        yield Team(rank(), size)
    finally:
        dist.destroy_process_group()
