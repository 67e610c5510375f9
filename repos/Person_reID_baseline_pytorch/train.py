"""Trains a network to recognise persons across cameras: `python train.py --model pcb --size reduced`.

It reads the options before anything heavy is imported, so that a wrong one fails at once.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _kit import options, threads
from _kit.run import Run, main

MODELS = ("densenet121", "hrnet18", "pcb")
LEARNING_RATES = {"densenet121": 0.05, "hrnet18": 0.05, "pcb": 0.02}


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of one training; the default learning rate is that of the chosen model."""
    learning_rate = LEARNING_RATES[options.chosen_model(arguments, MODELS)]
    parser = options.base_parser(__doc__ or "", MODELS)
    add = options.add_hyperparameter
    add(parser, "epochs", options.integer(1), 60, "passes over the training pictures", ["--total_epoch"])
    add(parser, "learning_rate", options.number(0), learning_rate, "learning rate of the heads", ["--lr"])
    add(parser, "dropout", options.number(0, 1), 0.5, "dropout rate of the heads", ["--droprate"])
    add(parser, "batch_size", options.integer(2), 32, "pictures in one optimiser step", ["--batchsize"])
    add(parser, "seed", options.integer(0), 1334, "seed of every random draw")
    add(parser, "weight_decay", options.number(0), 5e-4, "weight decay of SGD")
    text = "number format of the forward pass (default: off)"
    parser.add_argument("--amp", choices=("off", "float16", "bfloat16"), default="off", help=text)
    return parser.parse_args(arguments)


def run_model(chosen: argparse.Namespace, thread_count: int, run: Run) -> None:
    """Load the pictures, prepare the device and train the chosen model; imports torch."""
    import person_sets
    import reid_training
    from _kit.device import choose_device, seed_everything

    device = choose_device(chosen.device)
    seed_everything(chosen.seed, device, thread_count)
    shuffle_seed = chosen.seed if chosen.shuffle_labels else None
    data = run.load(person_sets.load, chosen.data, chosen.data_source, chosen.size, shuffle_seed, run.check_stop)
    reid_training.train(chosen, run, data, device)


if __name__ == "__main__":
    chosen_options = parse_options()
    granted = threads.fix_threads()
    sys.exit(main(lambda run: run_model(chosen_options, granted, run)))
