"""Trains a network to tell persons apart, then looks for other persons in a gallery (needs torch)."""

from argparse import Namespace
from collections.abc import Iterator

import retrieval
import torch
import torch.nn.functional as F
from _kit import checkpoint, effective
from _kit.batches import TensorBatches
from _kit.device import facts, generator
from _kit.precision import Precision
from _kit.run import Run
from person_networks import FORMS, Form, PartNet, WholeBodyNet, build
from person_sets import PersonData
from shots import Shots

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MOMENTUM, BACKBONE_SHARE, RATE_DROP = 0.9, 0.1, 0.1
PADDING, PADDED_HEIGHT = 10, 256  # pixels on each side of a picture of that height
EVALUATION_BATCH = 128
PROGRESS_LINES = 8
ORDER_STREAM, CROP_STREAM = 1, 2

Network = WholeBodyNet | PartNet


def pictures(images: torch.Tensor, form: Form) -> torch.Tensor:
    """Float pictures [n, 3, height, width] from 0 to 1, enlarged from uint8 ones of any size."""
    size = (form.height, form.width)
    return F.interpolate(images.float() / 255, size=size, mode="bicubic", align_corners=False).clamp(0, 1)


def normalised(images: torch.Tensor) -> torch.Tensor:
    """`images` with ImageNet's mean and deviation of each channel taken out."""
    mean, deviation = (torch.tensor(values, device=images.device)[:, None, None] for values in (MEAN, DEVIATION))
    return (images - mean) / deviation


class TrainingBatches:
    """Batches of pictures on the device, each flipped with probability 1/2 and shifted by up to `margin` pixels.

    The last batch is left out where it is smaller, as in the original (a norm over one picture has no meaning).
    """

    def __init__(self, data: PersonData, form: Form, margin: int, batch_size: int, seed: int, device: torch.device):
        tensors = torch.from_numpy(data.shots.train.images), torch.from_numpy(data.labels)
        self._batches = TensorBatches(*tensors, batch_size=batch_size, generator=generator(seed, ORDER_STREAM))
        self._draws = generator(seed, CROP_STREAM)
        self._form, self._margin, self._device = form, margin, device

    @property
    def batch_size(self) -> int:
        """Pictures in one step."""
        return self._batches.batch_size

    def __len__(self) -> int:
        return max(1, self._batches.samples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for (images, labels), _ in zip(self._batches, range(len(self)), strict=False):
            enlarged = pictures(images.to(self._device), self._form)
            yield normalised(self._cut(enlarged)), labels.to(self._device)

    def _cut(self, images: torch.Tensor) -> torch.Tensor:
        count, device = len(images), images.device
        down, across = torch.randint(2 * self._margin + 1, (2, count, 1), generator=self._draws)
        flipped = torch.randint(2, (count, 1), generator=self._draws) == 1
        steps = torch.arange(self._form.width)
        rows = (down + torch.arange(self._form.height))[:, None, :, None].to(device)
        columns = (across + torch.where(flipped, steps.flip(0), steps))[:, None, None, :].to(device)
        which = torch.arange(count, device=device)[:, None, None, None]
        channels = torch.arange(3, device=device)[None, :, None, None]
        return F.pad(images, (self._margin,) * 4)[which, channels, rows, columns]


def make_optimizer(model: Network, learning_rate: float, weight_decay: float) -> torch.optim.SGD:
    """SGD with Nesterov's momentum; the heads learn at `learning_rate`, all else at a tenth of it."""
    heads = list(model.heads.parameters())
    known = {id(parameter) for parameter in heads}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = [{"params": heads, "lr": learning_rate}, {"params": rest, "lr": BACKBONE_SHARE * learning_rate}]
    return torch.optim.SGD(groups, lr=learning_rate, momentum=MOMENTUM, weight_decay=weight_decay, nesterov=True)


def train(options: Namespace, run: Run, data: PersonData, device: torch.device) -> None:
    """Train for options.epochs passes, then report map, rank1, rank5 and rank10 (ratios) of the gallery."""
    form = FORMS[options.model, data.size]
    model = build(options.model, data.size, data.persons, options.dropout).to(device)
    optimizer = make_optimizer(model, options.learning_rate, options.weight_decay)
    epochs = range(1, options.epochs + 1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, max(1, len(epochs) * 2 // 3), gamma=RATE_DROP)
    precision = Precision(options.amp, device)
    margin = 0 if options.model == "pcb" else form.height * PADDING // PADDED_HEIGHT
    training = TrainingBatches(data, form, margin, options.batch_size, options.seed, device)
    heads, rest = optimizer.param_groups
    run.config(
        {
            "epochs": len(epochs),
            "learning_rate": heads["initial_lr"],
            "dropout": effective.dropout(model),
            "batch_size": training.batch_size,
            "seed": torch.initial_seed(),
            "size": data.size,
        },
        data.provenance,
        model=options.model,
        parameters=effective.parameter_count(model),
        backbone_learning_rate=rest["initial_lr"],
        weight_decay=effective.weight_decay(optimizer),
        optimizer=type(optimizer).__name__,
        image=[form.height, form.width],
        precision=precision.name,
        **facts(device),
    )
    if not options.no_checkpoint:
        checkpoint.keep(run, model)
    metrics: dict[str, float] = {}
    for epoch in epochs:
        metrics = _train_epoch(epoch, model, optimizer, precision, training, run)
        shown = ", ".join(f"{name}={value:.4f}" for name, value in metrics.items())
        run.say(f"Epoch {epoch}/{len(epochs)}: {shown}, learning_rate={heads['lr']:.6g}")
        scheduler.step()
        run.epoch(metrics)
    query = describe(model, data.shots.query, form, precision, device, run)
    gallery = describe(model, data.shots.gallery, form, precision, device, run)
    found = retrieval.scores(query, gallery)
    ranks = " ".join(f"Rank@{rank}:{found[f'rank{rank}']:.6f}" for rank in retrieval.RANKS)
    run.say(f"{ranks} mAP:{found['map']:.6f}")
    run.done({**found, **metrics})


def _train_epoch(
    epoch: int,
    model: Network,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    training: TrainingBatches,
    run: Run,
) -> dict[str, float]:
    """Mean loss and share of right answers over the epoch's batches."""
    model.train()
    every = max(1, len(training) // PROGRESS_LINES)
    loss_sum, right = torch.zeros(2, device=next(model.parameters()).device).unbind()
    seen = 0
    for index, (images, labels) in enumerate(training):
        with precision.autocast():
            logits = model(images)
            loss = sum((F.cross_entropy(part, labels) for part in logits), torch.zeros((), device=labels.device))
        precision.step(loss, optimizer)
        run.step()
        votes = torch.stack([part.detach().float().softmax(dim=1) for part in logits]).sum(dim=0)
        loss_sum += loss.detach() * len(labels)
        right += (votes.argmax(dim=1) == labels).sum()
        seen += len(labels)
        if index % every == 0:
            run.say(f"Epoch {epoch} step {index + 1}/{len(training)}: loss={loss.item():.6f}")
    return {"train_loss": loss_sum.item() / seen, "train_accuracy": right.item() / seen}


@torch.inference_mode()
def describe(
    model: Network, shots: Shots, form: Form, precision: Precision, device: torch.device, run: Run
) -> retrieval.Described:
    """The pictures as vectors of length 1: what the network sees in each and in its mirror image, together."""
    model.eval()
    vectors = []
    for start in range(0, len(shots), EVALUATION_BATCH):
        images = torch.from_numpy(shots.images[start : start + EVALUATION_BATCH]).to(device)
        inputs = normalised(pictures(images, form))
        with precision.autocast():
            found = model.features(inputs).float() + model.features(inputs.flip(3)).float()
        parts = F.normalize(found, dim=2) / found.shape[1] ** 0.5
        vectors.append(parts.flatten(1))
        run.check_stop()
    persons, cameras = torch.from_numpy(shots.persons).to(device), torch.from_numpy(shots.cameras).to(device)
    return retrieval.Described(torch.cat(vectors), persons, cameras)
