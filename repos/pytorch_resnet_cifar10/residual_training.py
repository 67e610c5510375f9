"""Trains a residual network with SGD, flips and shifted crops, and tests it after each epoch (needs torch)."""

from argparse import Namespace
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from _kit import checkpoint, effective
from _kit.batches import TensorBatches
from _kit.device import facts, generator
from _kit.precision import Precision
from _kit.run import Run
from _kit.team import Team, joined
from residual import BLOCKS_PER_STAGE, FULL, REDUCED, ResNet
from small_images import Images
from torch import nn

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WARMED_UP = ("resnet110", "resnet1202")
TEST_BATCH = 500
PROGRESS_LINES = 8
ORDER_STREAM, SHIFT_STREAM = 1, 2


class ShiftedBatches:
    """A team's batches of normalised images, each flipped with probability 1/2 and shifted by at most an eighth.

    Iterating gives this process's share of each, and how many images the whole batch has."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, batch_size: int, seed: int, team: Team) -> None:
        self.margin = images.shape[-1] // 8
        padded = F.pad(images, (self.margin,) * 4)
        order = generator(seed, ORDER_STREAM)
        self._batches = TensorBatches(padded, labels, batch_size=batch_size, generator=order)
        self._draws = generator(seed, SHIFT_STREAM)
        self._side = images.shape[-1]
        self._team = team

    @property
    def batch_size(self) -> int:
        """Images in one step."""
        return self._batches.batch_size

    @property
    def samples(self) -> int:
        """Images in one epoch."""
        return self._batches.samples

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        for padded, labels in self._batches:
            if len(labels) < self._team.size:
                continue  # no image for some of us: they would have nothing to take a gradient of
            count = len(labels)
            padded, labels, *drawn = self._team.share(padded, labels, *self._draw(count))
            yield normalised(self._cut(padded, *drawn)), labels, count

    def _draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """How far each image is shifted down and across, and whether it is flipped: [count, 1] each."""
        down, across = torch.randint(2 * self.margin + 1, (2, count, 1), generator=self._draws)
        return down, across, torch.randint(2, (count, 1), generator=self._draws) == 1

    def _cut(
        self, padded: torch.Tensor, down: torch.Tensor, across: torch.Tensor, flipped: torch.Tensor
    ) -> torch.Tensor:
        count, device = len(padded), padded.device
        steps = torch.arange(self._side)
        rows = (down + steps)[:, None, :, None].to(device)
        columns = (across + torch.where(flipped, steps.flip(0), steps))[:, None, None, :].to(device)
        which = torch.arange(count, device=device)[:, None, None, None]
        channels = torch.arange(3, device=device)[None, :, None, None]
        return padded[which, channels, rows, columns]


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Float images from uint8 ones [n, 3, h, w], with ImageNet's mean and deviation of each channel taken out."""
    mean, deviation = (torch.tensor(values, device=images.device)[:, None, None] for values in (MEAN, DEVIATION))
    return (images.float() / 255 - mean) / deviation


def rate_factor(epochs: int, warm_up: bool, quirk: bool) -> Callable[[int], float]:
    """What the learning rate of an epoch (from 0) is multiplied with: a tenth at a half and at three quarters.

    With `warm_up` the first epoch runs at a tenth. With `quirk` all epochs do, as in the original's code.
    """

    def factor(epoch: int) -> float:
        value = 1.0
        if epoch > 0 and 2 * epoch >= epochs:
            value *= 0.1
        if epoch > 0 and 4 * epoch >= 3 * epochs:
            value *= 0.1
        if warm_up and (quirk or (epoch == 0 and epochs > 1)):
            value *= 0.1
        return value

    return factor


def train(options: Namespace, run: Run, data: Images, device: torch.device) -> None:
    """Train for options.epochs passes over the images and report test_accuracy (a ratio) and losses after each."""
    with joined(device) as team:
        _train(options, run, data, device, team)


def _train(options: Namespace, run: Run, data: Images, device: torch.device, team: Team) -> None:
    model = ResNet(BLOCKS_PER_STAGE[options.model], FULL if data.size == "full" else REDUCED).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=options.learning_rate, momentum=options.momentum, weight_decay=options.weight_decay
    )
    epochs = range(1, options.epochs + 1)
    factor = rate_factor(len(epochs), options.model in WARMED_UP, options.upstream_lr_quirk)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    precision = Precision(options.amp, device)
    images, labels = _tensors(data.train_images, data.train_labels, device)
    training = ShiftedBatches(images, labels, options.batch_size, options.seed, team)
    testing = TensorBatches(*_tensors(data.test_images, data.test_labels, device), batch_size=TEST_BATCH)
    run.config(
        {
            "epochs": len(epochs),
            "learning_rate": effective.base_learning_rate(optimizer),
            "weight_decay": effective.weight_decay(optimizer),
            "momentum": effective.momentum(optimizer),
            "batch_size": training.batch_size,
            "seed": torch.initial_seed(),
            "size": data.size,
        },
        data.provenance,
        model=options.model,
        parameters=effective.parameter_count(model),
        optimizer=type(optimizer).__name__,
        first_learning_rate=effective.learning_rate(optimizer),
        precision=precision.name,
        processes=team.size,
        **facts(device),
    )
    if not options.no_checkpoint and team.speaks:
        checkpoint.keep(run, model)
    shared = team.wrapped(model)
    metrics: dict[str, float] = {}
    for epoch in epochs:
        run.say(f"current lr {effective.learning_rate(optimizer):.5e}")
        train_loss = _train_epoch(epoch, shared, optimizer, precision, training, run, team)
        team.agree(model)
        test_loss, correct = _evaluate(model, precision, testing, run, team)
        metrics = {"test_accuracy": correct / testing.samples, "test_loss": test_loss, "train_loss": train_loss}
        run.say(f"Test: [{epoch}]\tLoss {test_loss:.4f}\n * Prec@1 {100 * correct / testing.samples:.3f}")
        scheduler.step()
        run.epoch(metrics)
    run.done(metrics)


def _tensors(images: np.ndarray, labels: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(images).to(device), torch.from_numpy(labels).long().to(device)


def _train_epoch(
    epoch: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    training: ShiftedBatches,
    run: Run,
    team: Team,
) -> float:
    model.train()
    every = max(1, len(training) // PROGRESS_LINES)
    total = torch.zeros((), device=next(model.parameters()).device)
    for index, (images, labels, everybody) in enumerate(training):
        with precision.autocast():
            loss = F.cross_entropy(model(images), labels)
        precision.step(loss * team.weight(len(labels), everybody), optimizer)
        run.step()
        total += loss.detach() * len(labels)
        if index % every == 0:
            run.say(f"Epoch: [{epoch - 1}][{index}/{len(training)}]\tLoss {loss.item():.4f}")
    return team.sums(total).item() / training.samples


@torch.inference_mode()
def _evaluate(
    model: nn.Module, precision: Precision, testing: TensorBatches, run: Run, team: Team
) -> tuple[float, int]:
    model.eval()
    loss, correct = 0.0, 0
    for number, (images, labels) in enumerate(testing):
        if number % team.size != team.rank:
            continue
        with precision.autocast():
            logits = model(normalised(images)).float()
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(dim=1) == labels).sum().item())
        run.check_stop()
    sums = team.sums(torch.tensor([loss, float(correct)], dtype=torch.float64, device=next(model.parameters()).device))
    return sums[0].item() / testing.samples, round(sums[1].item())
