"""Trains a detector of vulnerable C functions: `python train.py --model cnn --size reduced`.

It reads the options before anything heavy is imported, so that a wrong one fails at once.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _kit import options, threads
from _kit.run import Run, main

MODELS = ("mlp", "cnn")
DATASETS = ("auto", "devign", "d2a", "draper", "reveal", "vuldeepecker")
DEFAULTS = {
    "mlp": {"epochs": 10, "learning_rate": 3e-5, "batch_size": 4, "seed": 42},
    "cnn": {"epochs": 20, "learning_rate": 5e-4, "batch_size": 128, "seed": 1234},
}


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of one training; the defaults are those of the chosen model."""
    default = DEFAULTS[options.chosen_model(arguments, MODELS)]
    parser = options.base_parser(__doc__ or "", MODELS)
    add = options.add_hyperparameter
    add(parser, "epochs", options.integer(1), default["epochs"], "passes over the training functions")
    add(parser, "learning_rate", options.number(0), default["learning_rate"], "peak learning rate", ["--lr"])
    add(parser, "weight_decay", options.number(0), 0.0, "weight decay", ["--wd"])
    add(parser, "batch_size", options.integer(1), default["batch_size"], "functions in one optimiser step")
    add(parser, "seed", options.integer(0), default["seed"], "seed of every random draw")
    parser.add_argument("--dataset", choices=DATASETS, default="auto", help="which set below the data root")
    parser.add_argument("--allow-pickle", action="store_true", help="read pickled sets; a pickle can run any code")
    text = "number format of the forward pass; auto: float16 for mlp on a GPU, else off"
    parser.add_argument("--amp", choices=options.PRECISIONS, default="auto", help=text)
    return parser.parse_args(arguments)


def run_model(chosen: argparse.Namespace, thread_count: int, run: Run) -> None:
    """Load the functions, prepare the device and train the chosen model; imports torch."""
    import detector_training
    import encoded_functions
    from _kit.device import choose_device, seed_everything

    device = choose_device(chosen.device)
    seed_everything(chosen.seed, device, thread_count)
    shuffle_seed = chosen.seed if chosen.shuffle_labels else None
    data = run.load(
        encoded_functions.load,
        chosen.data,
        chosen.data_source,
        chosen.dataset,
        chosen.size,
        chosen.allow_pickle,
        shuffle_seed,
    )
    detector_training.train(chosen, run, data, device)


if __name__ == "__main__":
    chosen_options = parse_options()
    granted = threads.fix_threads()
    sys.exit(main(lambda run: run_model(chosen_options, granted, run)))
