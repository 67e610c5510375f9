"""Trains a residual network on 32x32 images: `python train.py --model resnet20 --size reduced`.

It reads the options before anything heavy is imported, so that a wrong one fails at once.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _kit import options, threads
from _kit.run import Run, main

MODELS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202")


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of one training."""
    parser = options.base_parser(__doc__ or "", MODELS)
    add = options.add_hyperparameter
    add(parser, "epochs", options.integer(1), 200, "passes over the training images")
    add(parser, "learning_rate", options.number(0), 0.1, "learning rate before its drops", ["--lr"])
    add(parser, "weight_decay", options.number(0), 1e-4, "weight decay of SGD", ["--wd"])
    add(parser, "momentum", options.number(0, 1), 0.9, "momentum of SGD")
    add(parser, "batch_size", options.integer(1), 128, "images in one optimiser step", ["-b"])
    add(parser, "seed", options.integer(0), 1334, "seed of every random draw")
    text = "number format of the forward pass (default: off)"
    parser.add_argument("--amp", choices=("off", "float16", "bfloat16"), default="off", help=text)
    text = "resnet110 and resnet1202 at a tenth of the learning rate throughout, as the original's code does"
    parser.add_argument("--upstream-lr-quirk", action="store_true", help=text)
    text = "train on the first N images only; for a look at the long networks"
    parser.add_argument("--train-limit", type=options.integer(1), metavar="N", help=text)
    return parser.parse_args(arguments)


def run_model(chosen: argparse.Namespace, thread_count: int, run: Run) -> None:
    """Load the images, prepare the device and train the chosen model; imports torch."""
    import residual_training
    from _kit.device import choose_device, seed_everything
    from small_images import load_images

    device = choose_device(chosen.device)
    seed_everything(chosen.seed, device, thread_count)
    shuffle_seed = chosen.seed if chosen.shuffle_labels else None
    data = run.load(load_images, chosen.data, chosen.data_source, chosen.size, shuffle_seed, chosen.train_limit)
    residual_training.train(chosen, run, data, device)


if __name__ == "__main__":
    chosen_options = parse_options()
    granted = threads.fix_threads()
    sys.exit(main(lambda run: run_model(chosen_options, granted, run)))
