"""Shuffled mini-batches of tensors that lie in memory (needs torch); no files and no augmentation."""

from collections.abc import Iterator

import torch

from _kit.errors import DataError


class TensorBatches:
    """Iterates over equally long tensors in batches of `batch_size` rows; the last batch may be smaller.

    A last batch of fewer than `fewest` rows is left out: a norm over the batch has no meaning over a single one. The
    order is drawn on the CPU from `generator` (None: keep the order), so it is the same on every device.
    """

    def __init__(
        self, *tensors: torch.Tensor, batch_size: int, generator: torch.Generator | None = None, fewest: int = 1
    ) -> None:
        if not tensors or any(len(tensor) != len(tensors[0]) for tensor in tensors):
            raise ValueError(f"the tensors have different lengths: {[len(tensor) for tensor in tensors]}")
        if len(tensors[0]) < fewest:
            raise DataError(f"{len(tensors[0])} examples to train on; this network needs at least {fewest} in a step")
        self.tensors = tensors
        self.batch_size = batch_size
        self.generator = generator
        rest = self.samples % batch_size
        self._used = self.samples - rest if rest < fewest else self.samples

    @property
    def samples(self) -> int:
        """The number of rows."""
        return len(self.tensors[0])

    def __len__(self) -> int:
        return -(-self._used // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        if self.generator is None:
            for start in range(0, self._used, self.batch_size):
                yield tuple(tensor[start : start + self.batch_size] for tensor in self.tensors)
            return
        order = torch.randperm(self.samples, generator=self.generator).to(self.tensors[0].device)
        for rows in order[: self._used].split(self.batch_size):
            yield tuple(tensor[rows] for tensor in self.tensors)
