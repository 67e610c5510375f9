"""Shuffled mini-batches of tensors that lie in memory (needs torch); no files and no augmentation."""

from collections.abc import Iterator

import torch


class TensorBatches:
    """Iterates over equally long tensors in batches of `batch_size` rows; the last batch may be smaller.

    The order is drawn on the CPU from `generator` (None: keep the order), so it is the same on every device.
    """

    def __init__(self, *tensors: torch.Tensor, batch_size: int, generator: torch.Generator | None = None) -> None:
        if not tensors or any(len(tensor) != len(tensors[0]) for tensor in tensors):
            raise ValueError(f"the tensors have different lengths: {[len(tensor) for tensor in tensors]}")
        self.tensors = tensors
        self.batch_size = batch_size
        self.generator = generator

    @property
    def samples(self) -> int:
        """The number of rows."""
        return len(self.tensors[0])

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        if self.generator is None:
            for start in range(0, self.samples, self.batch_size):
                yield tuple(tensor[start : start + self.batch_size] for tensor in self.tensors)
            return
        order = torch.randperm(self.samples, generator=self.generator).to(self.tensors[0].device)
        for rows in order.split(self.batch_size):
            yield tuple(tensor[rows] for tensor in self.tensors)
