"""Trains mlp or cnn on encoded C functions, validates after each epoch, tests at the end (needs torch)."""

from argparse import Namespace

import numpy as np
import torch
import torch.nn.functional as F
from _kit import binary_scores, checkpoint, effective
from _kit.batches import TensorBatches
from _kit.device import facts, generator
from _kit.precision import Precision
from _kit.run import Run
from detector_recipes import RECIPES, Recipe, class_weights
from encoded_functions import Encoded
from torch import nn

EVALUATION_BATCH = 64
PROGRESS_LINES = 5


def train(options: Namespace, run: Run, data: Encoded, device: torch.device) -> None:
    """Train for options.epochs passes; each epoch reports scores on the validation functions, the end on the test."""
    training, validation, testing = _batches(options, data, device)
    epochs = range(1, options.epochs + 1)
    steps = len(epochs) * len(training)
    recipe = RECIPES[options.model](data.size, options.learning_rate, options.weight_decay, steps, device)
    precision = Precision(options.amp, device, recipe.amp_on_cuda)
    weights = class_weights(training.tensors[1].tolist()).to(device)
    _report(options, run, data, recipe, training, len(epochs), precision)
    if not options.no_checkpoint:
        checkpoint.keep(run, recipe.model)
    best: tuple[float, dict[str, torch.Tensor] | None] = (float("inf"), None)
    eval_loss = 0.0
    for epoch in epochs:
        train_loss = _train_epoch(epoch, recipe, precision, training, weights, run)
        eval_loss, scores = _evaluate(recipe.model, precision, validation, weights, run)
        metrics = {**scores, "eval_loss": eval_loss, "train_loss": train_loss}
        run.say(f"Epoch {epoch}/{len(epochs)}: {_shown(metrics)}")
        if recipe.keep_best and eval_loss < best[0]:
            best = eval_loss, _copied(recipe.model)
        run.epoch(metrics)
    if best[1] is not None:
        eval_loss = best[0]
        recipe.model.load_state_dict(best[1])
    _, scores = _evaluate(recipe.model, precision, testing, weights, run)
    run.done({**scores, "eval_loss": eval_loss})


def _batches(options: Namespace, data: Encoded, device: torch.device) -> tuple[TensorBatches, ...]:
    def tensors(split: tuple[np.ndarray, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        ids, labels = split
        return torch.from_numpy(ids.astype(np.int32)).to(device), torch.from_numpy(labels).long().to(device)

    order = generator(options.seed, stream=1)
    training = TensorBatches(*tensors(data.train), batch_size=options.batch_size, generator=order)
    return training, *(TensorBatches(*tensors(split), batch_size=EVALUATION_BATCH) for split in (data.valid, data.test))


def _report(
    options: Namespace,
    run: Run,
    data: Encoded,
    recipe: Recipe,
    training: TensorBatches,
    epochs: int,
    precision: Precision,
) -> None:
    model = recipe.model
    run.config(
        {
            "epochs": epochs,
            "learning_rate": recipe.learning_rate(),
            "weight_decay": recipe.weight_decay(),
            "batch_size": training.batch_size,
            "seed": torch.initial_seed(),
            "size": data.size,
        },
        data.provenance,
        model=options.model,
        parameters=effective.parameter_count(model),
        trainable_parameters=effective.parameter_count(model, trainable=True),
        symbols=data.symbols,
        precision=precision.name,
        optimizer=type(recipe.optimizer).__name__,
        **facts(next(model.parameters()).device),
    )


def _train_epoch(
    epoch: int, recipe: Recipe, precision: Precision, training: TensorBatches, weights: torch.Tensor, run: Run
) -> float:
    recipe.model.train()
    every = max(1, len(training) // PROGRESS_LINES)
    total = torch.zeros((), device=weights.device)
    for index, (ids, labels) in enumerate(training):
        with precision.autocast():
            loss = F.cross_entropy(recipe.model(ids), labels, weights)
        stepped = precision.step(loss, recipe.optimizer, recipe.model.parameters(), recipe.max_norm)
        if recipe.scheduler is not None and stepped:
            recipe.scheduler.step()
        run.step()
        total += loss.detach() * len(labels)
        if index % every == 0:
            run.say(f"Epoch {epoch} step {index + 1}/{len(training)}: loss={loss.item():.6f}")
    return total.item() / training.samples


@torch.inference_mode()
def _evaluate(
    model: nn.Module, precision: Precision, batches: TensorBatches, weights: torch.Tensor, run: Run
) -> tuple[float, dict[str, float]]:
    """The weighted loss, and accuracy, precision, recall, f1, mcc and auc."""
    model.eval()
    parts = []
    for ids, _ in batches:
        with precision.autocast():
            parts.append(model(ids).float())
        run.check_stop()
    logits, labels = torch.cat(parts), batches.tensors[1]
    loss = F.cross_entropy(logits, labels, weights).item()
    truth = labels.cpu().numpy()
    faulty = logits.softmax(dim=1)[:, 1].cpu().numpy()
    scores = binary_scores.decision_scores(truth, logits.argmax(dim=1).cpu().numpy())
    return loss, {**scores, "auc": binary_scores.auc(truth, faulty)}


def _copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


def _shown(scores: dict[str, float]) -> str:
    return ", ".join(f"{name}={value:.4f}" for name, value in scores.items())
