"""Trains a detector of code clones on syntax trees: `python train.py --size reduced`.

It reads the options before anything heavy is imported, so that a wrong one fails at once.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _kit import options, threads
from _kit.run import Run, main

MODELS = ("default",)
DATASETS = ("auto", "OJClone", "GCJ", "BCB")


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of one training."""
    parser = options.base_parser(__doc__ or "", MODELS, generated=False)
    add = options.add_hyperparameter
    add(parser, "epochs", options.integer(1), 10, "passes over the training pairs")
    add(parser, "learning_rate", options.number(0), 1e-4, "learning rate after the warm-up", ["--lr"])
    add(parser, "dropout", options.number(0, 1), 0.2, "dropout of the encoders; that of attention stays 0.1")
    add(parser, "weight_decay", options.number(0), 0.0, "weight decay", ["--wd"])
    add(parser, "batch_size", options.integer(1), 64, "pairs in one optimiser step")
    add(parser, "seed", options.integer(0), 1334, "seed of every random draw")
    text = "similarity above which a pair is a clone, 0: the best one on the validation pairs (default: by size)"
    parser.add_argument("--threshold", type=options.number(0, 1), help=f"test: {text}")
    parser.add_argument("--valid-threshold", type=options.number(0, 1), help=f"validation: {text}")
    parser.add_argument("--dataset", choices=DATASETS, default="auto", help="which set below the data root")
    parser.add_argument("--ast-type", choices=("OAST", "AST"), default="OAST", help="which tree of a program")
    text = "number format of the forward pass; auto: off"
    parser.add_argument("--amp", choices=options.PRECISIONS, default="auto", help=text)
    return parser.parse_args(arguments)


def run_model(chosen: argparse.Namespace, thread_count: int, run: Run) -> None:
    """Load the pairs, prepare the device and train; imports torch."""
    import clone_pairs
    import clone_training
    from _kit.device import choose_device, seed_everything

    device = choose_device(chosen.device)
    seed_everything(chosen.seed, device, thread_count)
    shuffle_seed = chosen.seed if chosen.shuffle_labels else None
    data = run.load(
        clone_pairs.load,
        chosen.data,
        chosen.data_source,
        chosen.dataset,
        chosen.ast_type,
        chosen.size,
        shuffle_seed,
    )
    clone_training.train(chosen, run, data, device)


if __name__ == "__main__":
    chosen_options = parse_options()
    granted = threads.fix_threads()
    sys.exit(main(lambda run: run_model(chosen_options, granted, run)))
