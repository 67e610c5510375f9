"""Trains the siamese network on pairs, validates after each epoch, tests the best state at the end (needs torch)."""

from argparse import Namespace
from dataclasses import dataclass

import numpy as np
import thresholds
import torch
import torch.nn.functional as F
from _kit import binary_scores, checkpoint, effective
from _kit.batches import TensorBatches
from _kit.device import facts, generator
from _kit.precision import Precision
from _kit.run import Run
from clone_net import Shape, SiameseNet
from clone_pairs import CloneData, Pairs

SHAPES = {
    "full": Shape(length=256, width=128, layers=2, heads=8, inner=512),
    "reduced": Shape(length=32, width=32, layers=1, heads=1, inner=32, gain=16.0),
}
# Validation and test. Small models, shortly trained, still put most pairs far above the original's 0.8 and 0.9; theirs
# is the point at which the loss calls a pair undecided.
THRESHOLDS = {"full": (0.8, 0.9), "reduced": (0.5, 0.5)}
UNDECIDED = 0.5
WARM_UP_SHARE = 5
LAST_RATE_SHARE = 0.1
EVALUATION_BATCH = 64
PROGRESS_LINES = 5


@dataclass(frozen=True)
class Sequences:
    """Both orders of every program on the device, int32 [programs, length]."""

    preorder: torch.Tensor
    postorder: torch.Tensor

    def of(self, pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The sequences [n, 2, length] of pairs [n, 2]."""
        return self.preorder[pairs], self.postorder[pairs]


@dataclass(frozen=True)
class Trainer:
    """The network with what trains it and what it reads."""

    model: SiameseNet
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    precision: Precision
    sequences: Sequences


def rate_share(step: int, steps: int, epochs: int) -> float:
    """The part of the peak learning rate for a step counted from 0.

    It rises linearly over the first epochs / 5 (at least over one step), then falls linearly to a tenth.
    """
    warm = max(1, round(steps / epochs * (epochs // WARM_UP_SHARE)))
    if step < warm:
        return (step + 1) / warm
    left = (steps - step) / max(1, steps - warm)
    return LAST_RATE_SHARE + (1 - LAST_RATE_SHARE) * max(0.0, left)


def cross_entropy(similarities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean binary cross-entropy; NaN for a NaN of a network that diverged, which torch's own refuses."""
    loss = F.binary_cross_entropy(similarities.nan_to_num(UNDECIDED), labels)
    return loss + 0 * similarities.sum()


def train(options: Namespace, run: Run, data: CloneData, device: torch.device) -> None:
    """Train for options.epochs passes; each epoch reports scores on the validation pairs, the end on the test pairs."""
    training = _batches(data.train, options.batch_size, device, generator(options.seed, stream=1))
    validation, testing = (_batches(split, EVALUATION_BATCH, device) for split in (data.valid, data.test))
    epochs = range(1, options.epochs + 1)
    trainer = _trainer(options, data, len(epochs), len(training), device)
    valid_threshold, test_threshold = _thresholds(options, data.size)
    _report(run, data, trainer, training, len(epochs), (valid_threshold, test_threshold))
    model = trainer.model
    if not options.no_checkpoint:
        checkpoint.keep(run, model)
    best: tuple[float, float, dict[str, torch.Tensor]] | None = None
    for epoch in epochs:
        train_loss = _train_epoch(epoch, trainer, training, run)
        truth, similarities, eval_loss = _judge(trainer, validation, run)
        searched = thresholds.best(truth, similarities)
        scores = _scores(truth, similarities, valid_threshold or searched)
        metrics = {**scores, "eval_loss": eval_loss, "train_loss": train_loss}
        run.say(f"Epoch {epoch}/{len(epochs)}: {_shown(metrics)}")
        if best is None or scores["f1"] > best[0]:
            best = scores["f1"], searched, _copied(model)
        run.epoch(metrics)
    model.load_state_dict(best[2])
    truth, similarities, _ = _judge(trainer, testing, run)
    threshold = test_threshold or best[1]
    run.say(f"Threshold: {threshold:.2f}")
    run.done(_scores(truth, similarities, threshold))


def _trainer(options: Namespace, data: CloneData, epochs: int, batches: int, device: torch.device) -> Trainer:
    model = SiameseNet(data.vocabulary, SHAPES[data.size], options.dropout).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_share(step, epochs * batches, epochs))
    sequences = Sequences(_tensor(data.preorder, device), _tensor(data.postorder, device))
    return Trainer(model, optimizer, scheduler, Precision(options.amp, device), sequences)


def _report(
    run: Run,
    data: CloneData,
    trainer: Trainer,
    training: TensorBatches,
    epochs: int,
    limits: tuple[float, float],
) -> None:
    run.config(
        {
            "epochs": epochs,
            "learning_rate": effective.base_learning_rate(trainer.optimizer),
            "dropout": effective.dropout(trainer.model),
            "weight_decay": effective.weight_decay(trainer.optimizer),
            "batch_size": training.batch_size,
            "seed": torch.initial_seed(),
            "size": data.size,
        },
        data.provenance,
        parameters=effective.parameter_count(trainer.model),
        vocabulary=data.vocabulary,
        thresholds=list(limits),
        precision=trainer.precision.name,
        optimizer=type(trainer.optimizer).__name__,
        **facts(trainer.sequences.preorder.device),
    )


def _thresholds(options: Namespace, size: str) -> tuple[float, float]:
    """Of validation and test; 0 means to search."""
    valid, test = THRESHOLDS[size]
    chosen_valid, chosen_test = options.valid_threshold, options.threshold
    return valid if chosen_valid is None else chosen_valid, test if chosen_test is None else chosen_test


def _tensor(array: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int32)).to(device)


def _batches(
    split: Pairs, batch_size: int, device: torch.device, order: torch.Generator | None = None
) -> TensorBatches:
    pairs, labels = split
    tensors = torch.from_numpy(pairs).long().to(device), torch.from_numpy(labels).float().to(device)
    return TensorBatches(*tensors, batch_size=batch_size, generator=order)


def _train_epoch(epoch: int, trainer: Trainer, training: TensorBatches, run: Run) -> float:
    trainer.model.train()
    every = max(1, len(training) // PROGRESS_LINES)
    total = torch.zeros((), device=trainer.sequences.preorder.device)
    for index, (pairs, labels) in enumerate(training):
        with trainer.precision.autocast():
            similarities = trainer.model(*trainer.sequences.of(pairs))
        loss = cross_entropy(similarities, labels)
        if trainer.precision.step(loss, trainer.optimizer):
            trainer.scheduler.step()
        run.step()
        total += loss.detach() * len(labels)
        if index % every == 0:
            run.say(f"Epoch {epoch} step {index + 1}/{len(training)}: loss={loss.item():.6f}")
    return total.item() / training.samples


@torch.inference_mode()
def _judge(trainer: Trainer, batches: TensorBatches, run: Run) -> tuple[np.ndarray, np.ndarray, float]:
    """Labels, similarities and mean loss."""
    trainer.model.eval()
    parts = []
    for pairs, _ in batches:
        with trainer.precision.autocast():
            parts.append(trainer.model(*trainer.sequences.of(pairs)))
        run.check_stop()
    similarities, labels = torch.cat(parts), batches.tensors[1]
    loss = cross_entropy(similarities, labels).item()
    return labels.cpu().numpy(), similarities.cpu().numpy(), loss


def _scores(truth: np.ndarray, similarities: np.ndarray, threshold: float) -> dict[str, float]:
    scores = binary_scores.decision_scores(truth, thresholds.decide(similarities, threshold))
    return {**scores, "auc": binary_scores.auc(truth, similarities)}


def _copied(model: SiameseNet) -> dict[str, torch.Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


def _shown(scores: dict[str, float]) -> str:
    return ", ".join(f"{name}={value:.4f}" for name, value in scores.items())
