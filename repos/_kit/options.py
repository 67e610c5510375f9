"""Builds a trainer's command line: one flag per hyperparameter, typed and bounded; it starts nothing.

`learning_rate` becomes `--learning-rate` and `--learning_rate`. A value that is not of the type, not finite or out
of its hard bounds ends the program with exit code 2 before torch is imported.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

SIZES = ("full", "reduced")
PRECISIONS = ("auto", "off", "float16", "bfloat16")
DATA_SOURCES = ("auto", "original", "packaged", "generated")


def integer(minimum: int) -> Callable[[str], int]:
    """A parser of whole numbers of at least `minimum`."""

    def parse(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{value} is below the smallest allowed value {minimum}")
        return value

    parse.__name__ = "int"
    return parse


def number(minimum: float, maximum: float = math.inf) -> Callable[[str], float]:
    """A parser of finite numbers from `minimum` to `maximum`; the float is the nearest one to the text, unrounded."""

    def parse(text: str) -> float:
        value = float(text)
        if not math.isfinite(value) or not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"{text} is not a finite number from {minimum} to {maximum}")
        return value

    parse.__name__ = "float"
    return parse


def add_hyperparameter(
    parser: argparse.ArgumentParser,
    name: str,
    parse: Callable[[str], object],
    default: object,
    help_text: str,
    extra_flags: Sequence[str] = (),
) -> None:
    """Add the flag of hyperparameter `name` in its hyphen and its underscore form."""
    flags = dict.fromkeys([f"--{name.replace('_', '-')}", f"--{name}", *extra_flags])
    shown = "derived" if default is None else default
    text = f"{help_text} (default: {shown})"
    parser.add_argument(*flags, dest=name, type=parse, default=default, metavar=name.upper(), help=text)


def base_parser(description: str, models: Sequence[str], generated: bool = True) -> argparse.ArgumentParser:
    """A parser with the options that every trainer has; `generated` says whether it can generate data."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    add = parser.add_argument
    add("--model", choices=models, default=models[0], help="the network to train (default: %(default)s)")
    add("--size", choices=SIZES, default="full", help="full: the original's shapes; reduced: seconds on a CPU")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: cuda where there is one")
    add("--data", type=Path, metavar="DIR", help="data root (default: $PROFILER_DATA)")
    text = "auto: the original data set where a data root has it, else what packages ship, else generated"
    add("--data-source", choices=DATA_SOURCES if generated else DATA_SOURCES[:-1], default="auto", help=text)
    add("--shuffle-labels", action="store_true", help="control: train on labels in random order")
    add("--no-checkpoint", action="store_true", help="write no checkpoint.pt into the working directory")
    return parser


def chosen_model(arguments: Sequence[str] | None, models: Sequence[str]) -> str:
    """The value of --model alone, so that the rest can be parsed by that model's own parser."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--model", default=models[0])
    model = early.parse_known_args(arguments)[0].model
    return model if model in models else models[0]
