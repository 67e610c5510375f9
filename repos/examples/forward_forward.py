"""Trains mnist_forward_forward: two dense layers, each by its own loss, no backpropagation between them (needs torch).

After Hinton 2022. A digit with its right label written into its first pixels should excite a layer (goodness, the
mean square of its outputs, above THRESHOLD), with a wrong label it should not. A digit is classified by the label
that excites the layers most.
"""

from argparse import Namespace
from itertools import pairwise

import torch
import torch.nn.functional as F
from _kit import checkpoint, effective
from _kit.batches import TensorBatches
from _kit.device import facts, generator
from _kit.run import Run
from classify import normalised
from digits import Digits
from torch import nn

WIDTHS = (28 * 28, 500, 500)
CLASSES = 10
THRESHOLD = 2.0
STEPS_PER_EPOCH = 30
# Inputs are scaled to this root mean square. At 1, Adam's first steps at learning rates from 0.005 up saturate the
# layers; near 0 (a vector of length 1, as often seen) hundreds of steps pass before the goodness moves at all.
INPUT_RMS = 0.25
PREDICTION_BATCH = 1000
ORDER_STREAM, NEGATIVE_STREAM = 1, 2


class GoodnessLayer(nn.Module):
    """A dense layer that sees only the direction of its input, so that goodness cannot be handed on."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width_out)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs [n, width_out] of inputs [n, width_in]."""
        length = inputs.norm(dim=1, keepdim=True) + 1e-4
        scale = INPUT_RMS * inputs.shape[1] ** 0.5
        return F.relu(self.linear(inputs * (scale / length)))


class ForwardForward(nn.Module):
    """784-500-500, 643,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GoodnessLayer(i, o) for i, o in pairwise(WIDTHS))

    def predict(self, digits: torch.Tensor) -> torch.Tensor:
        """The labels [n] of flat digits [n, 784]."""
        scores = []
        for label in range(CLASSES):
            outputs = with_label(digits, torch.full((len(digits),), label, device=digits.device))
            score = torch.zeros(len(digits), device=digits.device)
            for layer in self.layers:
                outputs = layer(outputs)
                score += goodness(outputs)
            scores.append(score)
        return torch.stack(scores, dim=1).argmax(dim=1)


def goodness(outputs: torch.Tensor) -> torch.Tensor:
    """The mean square [n] of a layer's outputs [n, width]."""
    return outputs.square().mean(dim=1)


def with_label(digits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Flat digits [n, 784] with their labels [n] one-hot in the first ten pixels, as bright as the brightest pixel."""
    marks = F.one_hot(labels, CLASSES).to(digits.dtype) * digits.max()
    return torch.cat([marks, digits[:, CLASSES:]], dim=1)


def wrong_labels(labels: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """For each label [n] another one, all nine equally likely."""
    shift = torch.randint(1, CLASSES, (len(labels),), generator=draws).to(labels.device)
    return (labels + shift) % CLASSES


def layer_loss(outputs: torch.Tensor) -> torch.Tensor:
    """The loss of outputs whose first half belongs to right labels and whose second half to wrong ones."""
    right, wrong = goodness(outputs).chunk(2)
    return F.softplus(torch.cat([THRESHOLD - right, wrong - THRESHOLD])).mean()


def train(options: Namespace, run: Run, digits: Digits, device: torch.device) -> None:
    """Train for options.epochs epochs and report test_accuracy and train_accuracy (ratios) after each."""
    model = ForwardForward().to(device)
    optimizers = [torch.optim.Adam(layer.parameters(), lr=options.learning_rate) for layer in model.layers]
    training, testing = _batches(digits, options, device)
    passes = -(-STEPS_PER_EPOCH // len(training))
    draws = generator(options.seed, NEGATIVE_STREAM)
    epochs = range(1, options.epochs + 1)
    run.config(
        {
            "epochs": len(epochs),
            "learning_rate": effective.shared_learning_rate(optimizers),
            "batch_size": training.batch_size,
            "seed": torch.initial_seed(),
            "train_size": digits.train_limit,
            "size": digits.size,
        },
        digits.provenance,
        model=options.model,
        parameters=effective.parameter_count(model),
        optimizer=type(optimizers[0]).__name__,
        train_samples=training.samples,
        steps_per_epoch=passes * len(training),
        **facts(device),
    )
    if not options.no_checkpoint:
        checkpoint.keep(run, model)
    metrics: dict[str, float] = {}
    for epoch in epochs:
        loss = _train_epoch(model, optimizers, training, passes, draws, run)
        train_accuracy = _accuracy(model, training, run)
        test_accuracy = _accuracy(model, testing, run)
        metrics = {"test_accuracy": test_accuracy, "train_accuracy": train_accuracy, "train_loss": loss}
        run.say(f"Epoch: {epoch}\tLoss: {loss:.6f}")
        run.say(f"train error: {1 - train_accuracy}\ntest error: {1 - test_accuracy}")
        run.epoch(metrics)
    run.done(metrics)


def _batches(digits: Digits, options: Namespace, device: torch.device) -> tuple[TensorBatches, TensorBatches]:
    def flat(images: torch.Tensor) -> torch.Tensor:
        return normalised(images).flatten(1).to(device)

    train_labels = torch.from_numpy(digits.train_labels).long().to(device)
    test_labels = torch.from_numpy(digits.test_labels).long().to(device)
    training = TensorBatches(
        flat(torch.from_numpy(digits.train_images)),
        train_labels,
        batch_size=options.batch_size or len(train_labels),
        generator=generator(options.seed, ORDER_STREAM),
    )
    testing = TensorBatches(flat(torch.from_numpy(digits.test_images)), test_labels, batch_size=PREDICTION_BATCH)
    return training, testing


def _train_epoch(
    model: ForwardForward,
    optimizers: list[torch.optim.Optimizer],
    training: TensorBatches,
    passes: int,
    draws: torch.Generator,
    run: Run,
) -> float:
    """The mean loss over layers and steps."""
    total = torch.zeros((), device=training.tensors[0].device)
    for _ in range(passes):
        for images, labels in training:
            wrong = wrong_labels(labels, draws)
            inputs = torch.cat([with_label(images, labels), with_label(images, wrong)])
            for layer, optimizer in zip(model.layers, optimizers, strict=True):
                outputs = layer(inputs)
                loss = layer_loss(outputs)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.step()
                total += loss.detach()
                inputs = outputs.detach()
    return total.item() / (passes * len(training) * len(optimizers))


@torch.inference_mode()
def _accuracy(model: ForwardForward, digits: TensorBatches, run: Run) -> float:
    right = 0
    images, labels = digits.tensors
    for rows, truth in zip(images.split(PREDICTION_BATCH), labels.split(PREDICTION_BATCH), strict=True):
        right += int((model.predict(rows) == truth).sum().item())
        run.check_stop()
    return right / digits.samples
