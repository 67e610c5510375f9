"""Trains one model of the examples repository on handwritten digits: `python train.py --model mnist_cnn --epochs 1`.

It reads the options before anything heavy is imported, so that a wrong one fails at once.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _kit import options, threads
from _kit.run import Run, main

MODELS = ("mnist_cnn", "mnist_rnn", "mnist_forward_forward", "siamese")
WITH_BATCH_NORMS = ("mnist_rnn", "siamese")
DEFAULT_TRAIN_SIZE = 10_000


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of one training; each model has flags for its own hyperparameters only."""
    model = options.chosen_model(arguments, MODELS)
    forward_forward = model == "mnist_forward_forward"
    parser = options.base_parser(__doc__ or "", MODELS, generated=False)
    epochs_help = "passes over the training digits"
    batch_help = "digits (siamese: pairs) in one optimiser step"
    if forward_forward:
        epochs_help = "epochs; one is as many passes over the training digits as make 30 optimiser steps, at least one"
        batch_help = "digits in one optimiser step, derived: all of them"
    options.add_hyperparameter(parser, "epochs", options.integer(1), 10, epochs_help)
    options.add_hyperparameter(parser, "learning_rate", options.number(0), 0.01, "initial learning rate", ["--lr"])
    fewest = options.integer(2 if model in WITH_BATCH_NORMS else 1)
    options.add_hyperparameter(parser, "batch_size", fewest, None if forward_forward else 32, batch_help)
    options.add_hyperparameter(parser, "seed", options.integer(0), 1, "seed of every random draw")
    if forward_forward:
        text = "the most digits to train on; all there are when there are fewer"
        options.add_hyperparameter(parser, "train_size", options.integer(1), DEFAULT_TRAIN_SIZE, text)
    return parser.parse_args(arguments)


def run_model(chosen: argparse.Namespace, thread_count: int, run: Run) -> None:
    """Load the digits, prepare the device and train the chosen model; imports torch."""
    import classify
    import forward_forward
    import siamese
    from _kit.device import choose_device, seed_everything
    from digits import load_digits

    device = choose_device(chosen.device)
    seed_everything(chosen.seed, device, thread_count)
    shuffle_seed = chosen.seed if chosen.shuffle_labels else None
    limit = getattr(chosen, "train_size", None)
    digits = run.load(load_digits, chosen.data, chosen.data_source, chosen.size, limit, shuffle_seed)
    trainers = {"mnist_forward_forward": forward_forward.train, "siamese": siamese.train}
    trainers.get(chosen.model, classify.train)(chosen, run, digits, device)


if __name__ == "__main__":
    chosen_options = parse_options()
    granted = threads.fix_threads()
    sys.exit(main(lambda run: run_model(chosen_options, granted, run)))
