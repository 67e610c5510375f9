"""The grammar: what is understood, what is refused, and with which words."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from profiler.cli.markdown import cli_markdown
from profiler.cli.parser import COMMANDS, build_parser, parse, path_text, subparsers_of
from profiler.errors import UsageError


def test_the_options_of_the_old_tool_keep_their_names() -> None:
    old = parse(["run", "-r", "examples", "-m", "mnist_cnn", "-mt", "learning_rate,epochs", "-n", "3", "-s", "7"])
    assert (old.repo, old.model, old.mutate) == ("examples", "mnist_cnn", ("learning_rate", "epochs"))
    assert (old.runs, old.seed) == (3, 7)
    line = "run --repo a --model b --mutate all --runs 2 --governor powersave --max-retries 0 --seed -1"
    long = parse(line.split())
    assert (long.repo, long.model, long.mutate, long.runs) == ("a", "b", ("all",), 2)
    assert (long.governor, long.max_retries, long.seed) == ("powersave", 0, -1)
    assert parse(["run", "-ec", "x.json"]).experiment_config == "x.json"
    assert parse(["run", "-mr", "1", "-g", "ondemand"]).max_retries == 1


def test_measure_takes_the_rest_of_the_line_as_the_command() -> None:
    assert parse(["measure", "--json", "--", "sh", "-c", "true", "--json"]).argv == ["sh", "-c", "true", "--json"]
    plain = parse(["measure", "sleep", "2", "--json"])
    assert plain.argv == ["sleep", "2", "--json"]
    assert plain.json is False
    assert parse(["measure", "--", "a", "--", "b"]).argv == ["a", "--", "b"]


def test_overrides_are_kept_in_order() -> None:
    assert parse(["plan", "c.yaml", "--set", "seed=1", "--set", "a.b=x=y"]).overrides == ["seed=1", "a.b=x=y"]
    assert parse(["plan", "c.yaml"]).overrides == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rnu x", ["'rnu'", "did you mean 'run'"]),
        ("-ec x.json", ["-ec", "profiler run -ec x.json"]),
        ("plan x --jsn", ["'--jsn'", "'--json'"]),
        ("list extra", ["'extra'"]),
        ("run -n 0", ["-n/--runs", ">= 1", "'0'"]),
        ("run -n 1.5", ["-n/--runs", "'1.5'"]),
        ("run -mr -1", ["-mr/--max-retries", ">= 0"]),
        ("run -s x", ["-s/--seed", "'x'"]),
        ("run -g fast", ["-g/--governor", "performance"]),
        ("run -mt a,,b", ["-mt/--mutate", "'a,,b'"]),
        ("plan x --set seed", ["--set", "KEY=VALUE", "'seed'"]),
        ("measure", ["profiler measure -- "]),
        ("measure --json --", ["profiler measure -- "]),
        ("show s -- x", ["`--`"]),
    ],
)
def test_a_wrong_line_is_refused_with_a_hint(line: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        parse(line.split())
    for word in words:
        assert word in str(refused.value)


PATHS = ("DIR", "FILE", "SESSION", "CONFIG", "A", "B")


def test_an_empty_path_is_refused_wherever_a_path_is_expected() -> None:
    kinds = {
        f"{command} {'/'.join(action.option_strings) or action.metavar}": action.type
        for command, subparser in subparsers_of(build_parser()).items()
        for action in subparser._actions
        if action.metavar in PATHS
    }
    assert len(kinds) > 25
    assert set(kinds.values()) == {path_text}, kinds
    for line in (
        ["run", "c.yaml", "--results", ""],
        ["import", " "],
        ["export", "s", "--csv", ""],
        ["coverage", "a", ""],
    ):
        with pytest.raises(UsageError, match="expected a path, got "):
            parse(line)


def test_no_option_may_be_shortened() -> None:
    with pytest.raises(UsageError):
        parse(["run", "--gov", "powersave"])


def test_a_bare_line_names_no_command() -> None:
    assert parse([]).command is None


def test_every_command_is_documented_with_every_option() -> None:
    page = cli_markdown()
    for spec in COMMANDS:
        assert f"## profiler {spec.name}\n" in page
        for option in subparsers_of(build_parser())[spec.name].option_strings():
            assert option in ("-h", "--help") or f"`{option}" in page


def test_the_page_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    page = cli_markdown()
    monkeypatch.setenv("COLUMNS", "40")
    assert cli_markdown() == page


def test_every_example_of_the_help_is_understood() -> None:
    for spec in COMMANDS:
        for line in spec.examples:
            words = shlex.split(line.partition("profiler ")[2].partition(" > ")[0])
            assert parse(words).command == spec.name


def test_the_page_in_docs_is_up_to_date() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
    assert page.read_text(encoding="utf-8") == cli_markdown(), "run: python docs/generate.py"
