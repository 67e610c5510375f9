"""The trainers' command line: types kept, bounds kept, both spellings of a flag."""

import argparse

import pytest
from _kit import options


def parser() -> argparse.ArgumentParser:
    made = options.base_parser("a trainer", ("one", "two"))
    options.add_hyperparameter(made, "epochs", options.integer(1), 10, "passes")
    options.add_hyperparameter(made, "learning_rate", options.number(0), 0.01, "step", ["--lr"])
    options.add_hyperparameter(made, "dropout", options.number(0, 1), None, "share")
    return made


def test_the_defaults() -> None:
    chosen = parser().parse_args([])
    assert (chosen.model, chosen.size, chosen.device, chosen.epochs, chosen.learning_rate) == (
        "one",
        "full",
        "auto",
        10,
        0.01,
    )
    assert chosen.dropout is None


@pytest.mark.parametrize("flag", ["--learning-rate", "--learning_rate", "--lr"])
@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-323, 0.007234567891234567, 5e-05])
def test_a_float_arrives_with_every_bit(flag: str, value: float) -> None:
    assert parser().parse_args([flag, repr(value)]).learning_rate == value


@pytest.mark.parametrize(
    "arguments",
    [
        ["--epochs", "0"],
        ["--epochs", "1.5"],
        ["--epochs", "ten"],
        ["--learning-rate", "nan"],
        ["--learning-rate", "inf"],
        ["--learning-rate", "-0.1"],
        ["--dropout", "1.1"],
        ["--learning", "0.1"],
        ["--model", "three"],
        ["--momentum", "0.9"],
    ],
)
def test_a_wrong_option_is_refused_with_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(arguments)
    assert caught.value.code == 2
    assert arguments[0].lstrip("-")[:5] in capsys.readouterr().err


def test_the_model_is_known_before_the_rest_is_parsed() -> None:
    models = ("one", "two")
    assert options.chosen_model(["--lr", "1", "--model", "two", "--odd"], models) == "two"
    assert options.chosen_model([], models) == "one"
    assert options.chosen_model(["--model", "three"], models) == "one"
