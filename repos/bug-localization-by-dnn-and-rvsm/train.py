"""Trains a bug localiser, on the CPU: `python train.py --size reduced`.

It reads the options before anything heavy is imported, so that a wrong one fails at once.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _kit import options, threads
from _kit.errors import CannotRunError
from _kit.run import Run, main

MODELS = ("default",)


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of one training."""
    parser = options.base_parser(__doc__ or "", MODELS)
    add = options.add_hyperparameter
    text = "most epochs of a fold; its training ends sooner when the loss stands still"
    add(parser, "max_iter", options.integer(1), 10_000, text, ["--epochs"])
    add(parser, "kfold", options.integer(2), 10, "folds of the cross-validation")
    add(parser, "alpha", options.number(0), 1e-5, "L2 regularisation")
    add(parser, "learning_rate", options.number(1e-12), 1e-3, "initial learning rate of SGD", ["--lr"])
    add(parser, "batch_size", options.integer(1), None, "rows in one optimiser step, derived: 200 or all if fewer")
    add(parser, "seed", options.integer(0), 42, "seed of every random draw")
    return parser.parse_args(arguments)


def run_model(chosen: argparse.Namespace, thread_count: int, run: Run) -> None:
    """Load the reports and cross-validate; imports scikit-learn."""
    if chosen.device == "cuda":
        raise CannotRunError("--device cuda: this model trains on the CPU only")
    import localizer
    from bug_sets import load_bug_set

    data = run.load(load_bug_set, chosen.data, chosen.data_source, chosen.size, chosen.seed, chosen.shuffle_labels)
    localizer.train(chosen, run, data, thread_count)


if __name__ == "__main__":
    chosen_options = parse_options()
    granted = threads.fix_threads()
    sys.exit(main(lambda run: run_model(chosen_options, granted, run)))
