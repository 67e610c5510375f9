"""Trains mnist_cnn and mnist_rnn: classification with the negative log-likelihood (needs torch).

mnist_rnn leaves out a last batch of a single digit, over which its batch norm has no meaning: of shuffled digits it is
another one in each epoch.
"""

from argparse import Namespace

import torch
import torch.nn.functional as F
from _kit import checkpoint, effective
from _kit.batches import TensorBatches
from _kit.device import facts, generator
from _kit.run import Run
from digits import Digits
from networks import ConvNet, RowLstm
from torch import nn

# The originals use Adadelta at 1.0 and 0.1. At the learning rates used here (0.005 to 0.02) it hardly moves in an
# epoch; Adagrad, its ancestor, learns with all of them at every batch size, and the LSTM does best with Adam.
# The last number: digits that a batch has at least.
RECIPES: dict[str, tuple[type[nn.Module], type[torch.optim.Optimizer], int]] = {
    "mnist_cnn": (ConvNet, torch.optim.Adagrad, 1),
    "mnist_rnn": (RowLstm, torch.optim.Adam, 2),
}
MEAN, DEVIATION = 0.1307, 0.3081
LEARNING_RATE_DECAY = 0.7
TEST_BATCH = 500
PROGRESS_LINES = 10


def train(options: Namespace, run: Run, digits: Digits, device: torch.device) -> None:
    """Train for options.epochs passes over the digits and report test_accuracy (a ratio) and losses after each."""
    network, optimiser, fewest = RECIPES[options.model]
    model = network().to(device)
    optimizer = optimiser(model.parameters(), lr=options.learning_rate)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=LEARNING_RATE_DECAY)
    training, testing = _batches(digits, options, device, fewest)
    epochs = range(1, options.epochs + 1)
    run.config(
        {
            "epochs": len(epochs),
            "learning_rate": effective.learning_rate(optimizer),
            "batch_size": training.batch_size,
            "seed": torch.initial_seed(),
            "size": digits.size,
        },
        digits.provenance,
        model=options.model,
        parameters=effective.parameter_count(model),
        optimizer=type(optimizer).__name__,
        **facts(device),
    )
    if not options.no_checkpoint:
        checkpoint.keep(run, model)
    metrics: dict[str, float] = {}
    for epoch in epochs:
        train_loss = _train_epoch(epoch, model, optimizer, training, run)
        test_loss, correct = _evaluate(model, testing, run)
        metrics = {"test_accuracy": correct / testing.samples, "test_loss": test_loss, "train_loss": train_loss}
        percent = 100 * correct / testing.samples
        run.say(f"Test set: Average loss: {test_loss:.6f}, Accuracy: {correct}/{testing.samples} ({percent:.2f}%)")
        scheduler.step()
        run.epoch(metrics)
    run.done(metrics)


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Float images [n, 1, 28, 28] with MNIST's mean 0 and deviation 1, from uint8 [n, 28, 28]."""
    return ((images.float() / 255 - MEAN) / DEVIATION).unsqueeze(1)


def _batches(
    digits: Digits, options: Namespace, device: torch.device, fewest: int
) -> tuple[TensorBatches, TensorBatches]:
    train_images = normalised(torch.from_numpy(digits.train_images)).to(device)
    train_labels = torch.from_numpy(digits.train_labels).long().to(device)
    test_images = normalised(torch.from_numpy(digits.test_images)).to(device)
    test_labels = torch.from_numpy(digits.test_labels).long().to(device)
    order = generator(options.seed, stream=1)
    training = TensorBatches(train_images, train_labels, batch_size=options.batch_size, generator=order, fewest=fewest)
    return training, TensorBatches(test_images, test_labels, batch_size=TEST_BATCH)


def _train_epoch(
    epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer, training: TensorBatches, run: Run
) -> float:
    model.train()
    every = max(1, len(training) // PROGRESS_LINES)
    total = torch.zeros((), device=training.tensors[0].device)
    seen = 0
    for index, (images, labels) in enumerate(training):
        optimizer.zero_grad()
        loss = F.nll_loss(model(images), labels)
        loss.backward()
        optimizer.step()
        run.step()
        total += loss.detach() * len(labels)
        if index % every == 0:
            share = 100 * index / len(training)
            run.say(f"Train Epoch: {epoch} [{seen}/{training.samples} ({share:.0f}%)]\tLoss: {loss.item():.6f}")
        seen += len(labels)
    return total.item() / seen


@torch.inference_mode()
def _evaluate(model: nn.Module, testing: TensorBatches, run: Run) -> tuple[float, int]:
    model.eval()
    loss, correct = 0.0, 0
    for images, labels in testing:
        scores = model(images)
        loss += F.nll_loss(scores, labels, reduction="sum").item()
        correct += int((scores.argmax(dim=1) == labels).sum().item())
        run.check_stop()
    return loss / testing.samples, correct
