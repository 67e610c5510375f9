"""Trains siamese: does a pair of images show the same digit? (needs torch).

A training pair is drawn anew in every epoch, a test pair once; half of the pairs are of one class. A last batch of a
single pair is left out: the norms over the batch have no meaning over it.
"""

from argparse import Namespace
from functools import partial

import torch
import torch.nn.functional as F
from _kit import checkpoint, effective
from _kit.batches import TensorBatches
from _kit.device import facts, generator
from _kit.errors import UsageError
from _kit.run import Run
from classify import normalised
from digits import Digits
from resnet18 import FEATURES, ResNet18
from torch import nn

CLASSES = 10
PROGRESS_LINES = 10
# Adagrad divides by the root of all squared gradients so far. Started from 0, its first steps are as long as the
# learning rate in every weight and throw a network with batch norms so far off that it learns nothing from 0.02 up.
FIRST_SQUARED_GRADIENT = 0.01
TEST_BATCH = 250
REDUCED_TRAIN_PAIRS, REDUCED_TEST_PAIRS = 320, 250
FEWEST_PAIRS = 2  # in a batch
TRAIN_PAIR_STREAM, TEST_PAIR_STREAM, ORDER_STREAM = 1, 2, 3


class SiameseNetwork(nn.Module):
    """One ResNet-18 looks at both images; two linear layers compare the features. 11,432,897 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet18()
        self.linear1 = nn.Linear(2 * FEATURES, 256)
        self.linear2 = nn.Linear(256, 1)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.constant_(linear.bias, 0.01)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Logits [n] for "the same digit" of images [n, 1, 28, 28] each."""
        features = torch.cat([self.backbone(first), self.backbone(second)], dim=1)
        return self.linear2(F.relu(self.linear1(features))).squeeze(1)


def draw_pairs(labels: torch.Tensor, count: int, draws: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Row numbers of `count` pairs, first [count] and second [count], and whether each is of one class [count].

    First rows and, within the wanted class, second rows are equally likely; every other pair is of one class.
    """
    by_class = [torch.nonzero(labels == digit).squeeze(1) for digit in range(CLASSES)]
    present = torch.tensor([digit for digit in range(CLASSES) if len(by_class[digit])])
    if len(present) < 2:
        raise UsageError("siamese needs digits of at least two classes")
    first = torch.randint(len(labels), (count,), generator=draws)
    same = torch.arange(count) % 2 == 0
    place = torch.searchsorted(present, labels[first])
    shift = torch.randint(1, len(present), (count,), generator=draws)
    wanted = torch.where(same, labels[first], present[(place + shift) % len(present)])
    share = torch.rand(count, generator=draws, dtype=torch.float64)
    rows = [by_class[digit] for digit in wanted.tolist()]
    second = torch.stack([row[int(part * len(row))] for row, part in zip(rows, share.tolist(), strict=True)])
    return first, second, same.float()


def train(options: Namespace, run: Run, digits: Digits, device: torch.device) -> None:
    """Train for options.epochs epochs of pairs and report test_accuracy (a ratio) and losses after each."""
    model = SiameseNetwork().to(device)
    accumulated = FIRST_SQUARED_GRADIENT
    optimizer = torch.optim.Adagrad(model.parameters(), options.learning_rate, initial_accumulator_value=accumulated)
    train_images = normalised(torch.from_numpy(digits.train_images)).to(device)
    train_labels = torch.from_numpy(digits.train_labels).long()
    testing = _test_pairs(digits, device)
    pairs = min(len(train_labels), REDUCED_TRAIN_PAIRS) if digits.size == "reduced" else len(train_labels)
    draws, order = generator(options.seed, TRAIN_PAIR_STREAM), generator(options.seed, ORDER_STREAM)
    batch_of = partial(TensorBatches, batch_size=options.batch_size, generator=order, fewest=FEWEST_PAIRS)
    epochs = range(1, options.epochs + 1)
    run.config(
        {
            "epochs": len(epochs),
            "learning_rate": effective.learning_rate(optimizer),
            "batch_size": batch_of.keywords["batch_size"],
            "seed": torch.initial_seed(),
            "size": digits.size,
        },
        digits.provenance,
        model=options.model,
        parameters=effective.parameter_count(model),
        optimizer=type(optimizer).__name__,
        train_pairs=pairs,
        test_pairs=testing.samples,
        **facts(device),
    )
    if not options.no_checkpoint:
        checkpoint.keep(run, model)
    metrics: dict[str, float] = {}
    for epoch in epochs:
        rows = (tensor.to(device) for tensor in draw_pairs(train_labels, pairs, draws))
        train_loss = _train_epoch(epoch, model, optimizer, train_images, batch_of(*rows), run)
        test_loss, correct = _evaluate(model, testing, run)
        metrics = {"test_accuracy": correct / testing.samples, "test_loss": test_loss, "train_loss": train_loss}
        percent = 100 * correct / testing.samples
        run.say(f"Test set: Average loss: {test_loss:.6f}, Accuracy: {correct}/{testing.samples} ({percent:.2f}%)")
        run.epoch(metrics)
    run.done(metrics)


def _test_pairs(digits: Digits, device: torch.device) -> TensorBatches:
    """The pairs to test on: first images, second images, same or not; the same ones whatever the seed."""
    images = normalised(torch.from_numpy(digits.test_images)).to(device)
    count = min(len(images), REDUCED_TEST_PAIRS) if digits.size == "reduced" else len(images)
    labels = torch.from_numpy(digits.test_labels).long()
    first, second, same = (rows.to(device) for rows in draw_pairs(labels, count, generator(0, TEST_PAIR_STREAM)))
    return TensorBatches(images[first], images[second], same, batch_size=TEST_BATCH)


def _train_epoch(
    epoch: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    pairs: TensorBatches,
    run: Run,
) -> float:
    model.train()
    every = max(1, len(pairs) // PROGRESS_LINES)
    total = torch.zeros((), device=images.device)
    seen = 0
    for index, (first, second, same) in enumerate(pairs):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(images[first], images[second]), same)
        loss.backward()
        optimizer.step()
        run.step()
        total += loss.detach() * len(same)
        if index % every == 0:
            share = 100 * index / len(pairs)
            run.say(f"Train Epoch: {epoch} [{seen}/{pairs.samples} ({share:.0f}%)]\tLoss: {loss.item():.6f}")
        seen += len(same)
    return total.item() / seen


@torch.inference_mode()
def _evaluate(model: nn.Module, testing: TensorBatches, run: Run) -> tuple[float, int]:
    model.eval()
    loss, correct = 0.0, 0
    for first, second, same in testing:
        logits = model(first, second)
        loss += F.binary_cross_entropy_with_logits(logits, same, reduction="sum").item()
        correct += int(((logits > 0) == (same > 0)).sum().item())
        run.check_stop()
    return loss / testing.samples, correct
