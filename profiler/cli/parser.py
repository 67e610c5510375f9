"""The command line's grammar: every command and option, declared once. Parses only; runs nothing and prints only help.

`docs/cli.md` is made from it. Importing this module imports nothing heavy, so that ``profiler --help`` is quick.
"""

from __future__ import annotations

import argparse
import difflib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from profiler._version import __version__
from profiler.errors import UsageError

DESCRIPTION = """\
Trains deep-learning models many times with mutated hyper-parameters, alone or co-located
on one GPU, and records energy, performance and conditions of every run."""

EXAMPLES = """\
examples:
  profiler doctor                                           what can be measured on this machine
  profiler list                                             models and their hyper-parameters
  profiler plan configs/quickstart.yaml                     what would run; starts nothing
  profiler run configs/quickstart.yaml                      run it
  profiler run -r examples -m mnist_cnn -mt learning_rate,epochs -n 3 -s 7
  profiler show results/run_20260101_000000                 the results
  profiler report results/run_20260101_000000               one HTML file to look at and to print
  profiler measure -- python train.py                       measure any command

exit codes:
  0    every planned run has a valid final attempt
  1    some run has not
  2    the config or the command line is wrong; nothing was started
  3    this machine or cluster cannot do it
  130  interrupted; everything is stopped and the session can be resumed"""


@dataclass(frozen=True)
class CommandSpec:
    """One command: its `name` (its module in `profiler.cli` too), one-line `summary`, examples for the help page."""

    name: str
    summary: str
    examples: tuple[str, ...]


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "run",
        "run a campaign, from a config file or from options",
        (
            "profiler run configs/quickstart.yaml",
            "profiler run configs/default.yaml --set runs_per_config=2 --dry-run",
            "profiler run -r examples -m mnist_cnn -mt all -n 5 -s 7",
            "profiler run configs/all.yaml --address 10.0.0.1:6379",
        ),
    ),
    CommandSpec(
        "plan",
        "show every run that a config would do; starts nothing",
        (
            "profiler plan configs/default.yaml",
            "profiler plan settings/old.json --json",
            "profiler plan --pairs --memory-mib 7500 > pairs.yaml",
        ),
    ),
    CommandSpec(
        "list",
        "repositories, models and hyper-parameters",
        ("profiler list", "profiler list --json"),
    ),
    CommandSpec(
        "doctor",
        "what can be measured here, what not, why, and the line that fixes it",
        ("profiler doctor", "profiler doctor --json", "profiler doctor --calibrate", "profiler doctor --address auto"),
    ),
    CommandSpec(
        "measure",
        "run any command contained and measured, once or many times, alone or against another one",
        (
            "profiler measure -- python train.py --epochs 3",
            "profiler measure --json -- sleep 2",
            "seq 1000000 | profiler measure --result /dev/stderr -- sort -rn | head -n 3",
            "profiler measure --repeat 20 --warmup 2 -- python train.py",
            "profiler measure --idle-seconds 5 -- python train.py",
            "profiler measure --repeat 10 --vs 'python train.py --batch-size 256' -- python train.py --batch-size 64",
            "profiler measure --repeat 5 --input data.csv --output /dev/null -- sort",
        ),
    ),
    CommandSpec(
        "show",
        "results of a session, one row per planned run",
        (
            "profiler show results/run_20260101_000000",
            "profiler show results/run_20260101_000000 --safe --json",
            "profiler show results --where \"model = 'resnet20' and safe\" --sort gpu_energy_j:desc",
            "profiler show results --columns run_id,hp_learning_rate,gpu_energy_j,metric_test_accuracy",
        ),
    ),
    CommandSpec(
        "compare",
        "two campaigns, or two measured commands, figure by figure with intervals",
        (
            "profiler compare results/run_20260101_000000 results/run_20260202_000000",
            "profiler compare before.json after.json --json",
        ),
    ),
    CommandSpec(
        "export",
        "results as files: CSV in the old column names, JSON, traces as CSV",
        (
            "profiler export results/run_20260101_000000 --csv all.csv --safe",
            "profiler export results --json all.json",
        ),
    ),
    CommandSpec(
        "import",
        "old result folders as a session, with an audit of what is wrong in them",
        ("profiler import old/results", "profiler import old/results/default --results results --json"),
    ),
    CommandSpec(
        "coverage",
        "which values were run, which are missing, and the config that fills the holes",
        (
            "profiler coverage results",
            "profiler coverage results/run_20260101_000000 --target 5 -o holes.yaml",
            "profiler coverage results --all-models --mode mutation --json",
        ),
    ),
    CommandSpec(
        "report",
        "a session as one HTML file, to look at and to print",
        (
            "profiler report results/run_20260101_000000",
            "profiler report results/run_20260101_000000 -o mnist.html --trace examples_mnist_cnn_007",
        ),
    ),
    CommandSpec(
        "reprocess",
        "metrics and verdicts of a session again from what is stored; runs nothing",
        (
            "profiler reprocess results/run_20260101_000000",
            "profiler reprocess results/run_20260101_000000 --set thresholds.throttled=0.05",
        ),
    ),
    CommandSpec(
        "resume",
        "finish an interrupted campaign; never repeats a finished run",
        ("profiler resume results/run_20260101_000000",),
    ),
    CommandSpec(
        "status",
        "what of this tool runs now, on this machine or every node of a cluster",
        ("profiler status", "profiler status results/run_20260101_000000", "profiler status --address auto"),
    ),
    CommandSpec(
        "reap",
        "end leftovers of this tool; a live session's processes are left alone",
        ("profiler reap", "profiler reap --address auto"),
    ),
)

Target = argparse._ActionsContainer  # a parser or one of its groups

GOVERNORS = ("performance", "powersave", "ondemand")


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError instead of ending the program."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\nsee: {self.prog} --help")

    def option_strings(self) -> list[str]:
        return [option for action in self._actions for option in action.option_strings]


def positive_int(text: str) -> int:
    """A whole number >= 1."""
    return _int_from(text, 1)


def natural_int(text: str) -> int:
    """A whole number >= 0."""
    return _int_from(text, 0)


def _int_from(text: str, lowest: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = lowest - 1
    if value < lowest:
        raise argparse.ArgumentTypeError(f"expected a whole number >= {lowest}, got {text!r}")
    return value


def positive_seconds(text: str) -> float:
    """A number of seconds above 0, of less than 31 years: the clocks of the system know no more."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"expected seconds above 0 and below 1e9, got {text!r}")
    return value


def whole_int(text: str) -> int:
    """Any whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def key_value(text: str) -> str:
    """KEY=VALUE, as typed."""
    key, equals, _value = text.partition("=")
    if not equals or not key.strip():
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return text


def path_text(text: str) -> str:
    """A path, as typed. An empty one would mean the current directory, and is mostly a variable that was not set."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    return text


def name_list(text: str) -> tuple[str, ...]:
    """A comma-separated list of names, or `all`."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected names separated by commas, or all; got {text!r}")
    return names


def column_list(text: str) -> tuple[str, ...]:
    """A comma-separated list of columns."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected columns separated by commas, got {text!r}")
    return names


def build_parser() -> Parser:
    """The whole grammar."""
    parser = Parser(
        prog="profiler", description=DESCRIPTION, epilog=EXAMPLES, usage="profiler [-h] [--version] COMMAND ..."
    )
    parser.add_argument("--version", action="version", version=f"profiler {__version__}")
    parser.add_argument("-l", "--list", dest="list_models", action="store_true", help="the same as `profiler list`")
    parser.add_argument("--json", dest="json_for_list", action="store_true", help="with -l: as one JSON document")
    subparsers = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="commands", prog="profiler", parser_class=Parser
    )
    for spec in COMMANDS:
        epilog = "\n".join(["examples:", *(f"  {line}" for line in spec.examples)])
        subparser = subparsers.add_parser(
            spec.name, help=spec.summary, description=spec.summary[0].upper() + spec.summary[1:] + ".", epilog=epilog
        )
        _ADD_OPTIONS[spec.name](subparser)
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed command line; `command` is None for a bare ``profiler``.

    What follows the first ``--`` is never read as an option: it is the COMMAND of ``measure``.
    Raises UsageError with the nearest known option or command.
    """
    head, tail = _split_at_dashes(arguments)
    parser = build_parser()
    _refuse_unknown_command(parser, head)
    options, unknown = parser.parse_known_args(head)
    if unknown:
        raise UsageError(_unknown_message(parser, options.command, unknown))
    if options.json_for_list:
        if not options.list_models:
            raise UsageError("--json stands behind the command, for example: profiler show SESSION --json")
        options.json = True
    if options.command == "measure":
        options.argv = [*options.argv, *(tail or [])]
        if not options.argv:
            raise UsageError("measure: which command?\nexample: profiler measure -- python train.py")
    elif tail is not None:
        raise UsageError(f"`--` is only for `profiler measure -- COMMAND`, seen before {' '.join(tail)!r}")
    return options


def _split_at_dashes(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    arguments = list(arguments)
    if "--" not in arguments:
        return arguments, None
    position = arguments.index("--")
    return arguments[:position], arguments[position + 1 :]


def subparsers_of(parser: Parser) -> dict[str, Parser]:
    """The command's parsers by name, in declared order."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _refuse_unknown_command(parser: Parser, arguments: Sequence[str]) -> None:
    first = next((word for word in arguments if not word.startswith("-")), None)
    known = list(subparsers_of(parser))
    if first is None or first in known:
        return
    if arguments and arguments[0].startswith("-") and arguments[0] in subparsers_of(parser)["run"].option_strings():
        raise UsageError(f"{arguments[0]} is an option of a command\ntry: profiler run {shlex.join(arguments)}")
    raise UsageError(f"unknown command {first!r}{_nearest(first, known)}\ncommands: {', '.join(known)}")


def _unknown_message(parser: Parser, command: str | None, unknown: Sequence[str]) -> str:
    subparsers = subparsers_of(parser)
    owner = subparsers[command] if command else parser
    word = unknown[0].partition("=")[0]
    kind = "option" if word.startswith("-") else "argument"
    if command is None and word in subparsers["run"].option_strings():
        return f"{word} is an option of a command\ntry: profiler run {shlex.join(unknown)}"
    return f"unknown {kind} {word!r}{_nearest(word, owner.option_strings())}\nsee: {owner.prog} --help"


def _nearest(word: str, known: Sequence[str]) -> str:
    matches = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _json(parser: Target, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"{what} as one JSON document on stdout, and nothing else")


def _set(parser: Target) -> None:
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        type=key_value,
        action="append",
        default=[],
        help="override a config key (repeatable), for example --set seed=7",
    )


def _session(parser: Parser) -> None:
    parser.add_argument(
        "session", metavar="SESSION", type=path_text, help="session folder, for example results/run_20260101_000000"
    )


def _address(parser: Target) -> None:
    parser.add_argument(
        "--address",
        metavar="ADDR",
        help="a running Ray cluster (default: that of $RAY_ADDRESS, else Ray inside this process)",
    )


def _require(parser: Target) -> None:
    parser.add_argument(
        "--require",
        metavar="NAMES",
        type=name_list,
        default=(),
        help="refuse (exit 3) unless these nodes of the cluster can serve: host names or addresses, comma-separated, "
        "or all; without it a node that cannot is left out by name",
    )


def _every_node(parser: Parser) -> None:
    parser.add_argument("--address", metavar="ADDR", help="on every node of this Ray cluster (default: this machine)")


def _run(parser: Parser) -> None:
    parser.usage = "profiler run CONFIG [options]\n       profiler run -r REPO -m MODEL -mt PARAMS [options]"
    config = parser.add_argument_group("from a config file")
    config.add_argument(
        "config", metavar="CONFIG", type=path_text, nargs="?", help="YAML config, or an old JSON settings file"
    )
    config.add_argument("-ec", "--experiment-config", metavar="FILE", type=path_text, help="the same as CONFIG")
    _set(config)
    direct = parser.add_argument_group("from options")
    direct.add_argument("-r", "--repo", metavar="REPO", help="repository")
    direct.add_argument("-m", "--model", metavar="MODEL", help="model")
    direct.add_argument(
        "-mt", "--mutate", metavar="PARAMS", type=name_list, help="hyper-parameters to mutate, comma-separated, or all"
    )
    direct.add_argument("-n", "--runs", metavar="N", type=positive_int, help="number of mutated runs (default 1)")
    direct.add_argument("-g", "--governor", choices=GOVERNORS, help="CPU frequency governor during the campaign")
    direct.add_argument(
        "-mr", "--max-retries", metavar="N", type=natural_int, help="further attempts after a failed one (default 2)"
    )
    direct.add_argument(
        "-s", "--seed", metavar="SEED", type=whole_int, help="seed of the plan (default: drawn, recorded)"
    )
    direct.add_argument(
        "--checkout", metavar="DIR", type=path_text, help="train your own clone of the original repository in DIR"
    )
    direct.add_argument("--python", metavar="PROGRAM", help="interpreter for that clone (default: the profiler's own)")
    direct.add_argument("-l", "--list", dest="list_models", action="store_true", help="the same as `profiler list`")
    common = parser.add_argument_group("common")
    common.add_argument(
        "--results",
        metavar="DIR",
        type=path_text,
        default="results",
        help="where sessions are kept (default: results); a URI (s3://..., gs://..., file:///...): the session lies in "
        "a folder of this machine, and is copied there as runs end",
    )
    _address(common)
    _require(common)
    common.add_argument("--dry-run", action="store_true", help="show the plan and start nothing")
    _less_strict(common)
    _json(common, "the results")


def _less_strict(parser: Target) -> None:
    parser.add_argument(
        "--governor-optional", action="store_true", help="go on where the governor cannot be set, instead of refusing"
    )
    parser.add_argument(
        "--allow-uncontained",
        action="store_true",
        help="go on where processes cannot be contained; such runs are never safe",
    )


def _plan(parser: Parser) -> None:
    parser.add_argument(
        "config",
        metavar="CONFIG",
        type=path_text,
        nargs="?",
        help="YAML config, or an old JSON settings file; not with --pairs",
    )
    parser.add_argument(
        "--pairs", action="store_true", help="propose a config of pairs that fit a GPU, each model in front once"
    )
    parser.add_argument(
        "--memory-mib", metavar="N", type=whole_int, help="with --pairs: the GPU's memory (default: this machine's)"
    )
    parser.add_argument(
        "--history", metavar="SESSION", type=path_text, action="append", default=[],
        help="with --pairs: go by the memory measured in this session (repeatable)",
    )  # fmt: skip
    _set(parser)
    _json(parser, "the plan")


def _list(parser: Parser) -> None:
    parser.add_argument("-l", "--list", dest="list_models", action="store_true", help=argparse.SUPPRESS)
    _json(parser, "the catalog")


def _doctor(parser: Parser) -> None:
    _every_node(parser)
    _require(parser)
    parser.add_argument(
        "--results",
        metavar="DIR",
        type=path_text,
        default="results",
        help="folder whose disk is checked (default: results)",
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="measure update period, averaging window and delay of each GPU's power sensor under a load (30 s a GPU), "
        "and keep them for later runs",
    )
    parser.add_argument(
        "--load",
        metavar="COMMAND",
        help="with --calibrate: the load instead of torch's; it gets the lengths of its stretches (off, on, off, ...) "
        "in s and prints `<CLOCK_MONOTONIC ns> <0 or 1>` at the start of each",
    )
    _json(parser, "the findings")


def _measure(parser: Parser) -> None:
    parser.usage = (
        "profiler measure [--json] [--timeout S] [--input FILE] [--output FILE] [--result FILE] -- COMMAND ...\n"
        "       profiler measure [--repeat N] [--warmup N] [--vs 'OTHER COMMAND'] [options] -- COMMAND ..."
    )
    parser.add_argument(
        "--repeat",
        metavar="N",
        type=positive_int,
        help="measure it N times: mean, spread and interval of confidence (default 1; 10 with --warmup or --vs)",
    )
    parser.add_argument(
        "--warmup", metavar="N", type=natural_int, default=0, help="run it N times before, without counting those"
    )
    parser.add_argument(
        "--vs",
        dest="versus",
        metavar="COMMAND",
        help="measure this command too, in turn with the first (ABBA), and compare them; quoted as one argument, "
        "split as a shell splits words, but not run by a shell",
    )
    parser.add_argument(
        "--input",
        metavar="FILE",
        type=path_text,
        help="what each run of the command reads as its stdin; - is this program's own stdin, read once "
        "(default: a single run reads this program's stdin, repeated ones /dev/null)",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=path_text,
        help="append stdout and stderr of the command to FILE (default: they pass through; with --json both to stderr)",
    )
    parser.add_argument(
        "--result",
        metavar="FILE",
        type=path_text,
        help="write the measurement to FILE instead of stdout, which is then the command's alone, as in a pipe",
    )
    parser.add_argument(
        "--timeout", metavar="S", type=positive_seconds, help="end each run of the command after S seconds"
    )
    parser.add_argument(
        "--idle-seconds",
        metavar="S",
        type=positive_seconds,
        help="watch the machine at rest for S seconds before (3 or more): gives the energy above idle too",
    )
    _json(parser, "the measurement")
    parser.add_argument(
        "--allow-uncontained",
        action="store_true",
        help="measure even where the command's processes cannot be contained",
    )
    parser.add_argument("argv", metavar="COMMAND", nargs=argparse.REMAINDER, help="the command and its arguments")


def _results(parser: Parser) -> None:
    parser.add_argument(
        "session", metavar="SESSION", type=path_text, help="session folder, or a results folder with many sessions"
    )


def _show(parser: Parser) -> None:
    _results(parser)
    parser.add_argument("--safe", action="store_true", help="only runs that are valid and uncontaminated")
    parser.add_argument(
        "--where",
        metavar="CONDITION",
        help="only runs for which this SQL condition over the columns of runs, hp_* and metric_* holds",
    )
    parser.add_argument(
        "--sort",
        metavar="COLUMNS",
        type=column_list,
        help="order by these columns, comma-separated; NAME:desc is largest first, nulls come last",
    )
    parser.add_argument("--columns", metavar="COLUMNS", type=column_list, help="show these columns, comma-separated")
    _json(parser, "the runs")


def _compare(parser: Parser) -> None:
    for name, which in (("A", "the first"), ("B", "the second")):
        parser.add_argument(
            name.lower(),
            metavar=name,
            type=path_text,
            help=f"{which}: a session folder, or a file that `profiler measure --json` wrote",
        )
    parser.add_argument("--all", action="store_true", help="also contaminated runs (default: only safe ones)")
    _json(parser, "the comparison")


def _export(parser: Parser) -> None:
    _results(parser)
    parser.add_argument("--csv", metavar="FILE", type=path_text, help="write the runs in the old column names")
    parser.add_argument(
        "--json",
        dest="json_file",
        metavar="FILE",
        type=path_text,
        help="write the runs as `profiler show --json` prints them",
    )
    parser.add_argument(
        "--energy", metavar="DIR", type=path_text, help="write each run's trace as CSV files, in DIR/<run_id>"
    )
    parser.add_argument("--safe", action="store_true", help="only runs that are valid and uncontaminated")


def _import(parser: Parser) -> None:
    parser.add_argument(
        "directory", metavar="DIR", type=path_text, help="old results: a tree, a session, a run, or only summary CSVs"
    )
    parser.add_argument(
        "--results",
        metavar="DIR",
        type=path_text,
        default="results",
        help="where the new session is made (default: results)",
    )
    parser.add_argument(
        "--trust-conditions",
        action="store_true",
        help="you vouch that nothing else used the machine during these runs; without it none of them is safe",
    )
    _json(parser, "the audit")


def _coverage(parser: Parser) -> None:
    parser.add_argument(
        "sessions",
        metavar="SESSION",
        type=path_text,
        nargs="+",
        help="session folders, or folders that hold sessions such as results",
    )
    parser.add_argument(
        "--target",
        metavar="N",
        type=positive_int,
        default=5,
        help="distinct values wanted of each hyper-parameter beside its default (default: 5)",
    )
    parser.add_argument("--safe", action="store_true", help="count only runs that are valid and uncontaminated")
    parser.add_argument(
        "--alone", action="store_true", help="count a value only where no other hyper-parameter was mutated with it"
    )
    parser.add_argument(
        "--mode",
        dest="modes",
        choices=("mutation", "parallel"),
        action="append",
        help="look at this mode only (repeatable; default: those that each model was planned in)",
    )
    parser.add_argument("--all-models", action="store_true", help="also models of the catalog that no session planned")
    parser.add_argument(
        "-mt", "--mutate", metavar="PARAMS", type=name_list, help="only these hyper-parameters, comma-separated, or all"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=path_text, help="write the config that fills the holes to this file"
    )
    _json(parser, "the coverage")


def _report(parser: Parser) -> None:
    _session(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=path_text, help="the file to write (default: report.html in SESSION)"
    )
    parser.add_argument(
        "--trace",
        metavar="RUN",
        action="append",
        default=[],
        help="a run whose power trace is shown in any case (repeatable); without it, up to 60 runs of every kind",
    )


def _reprocess(parser: Parser) -> None:
    _session(parser)
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="thresholds.REASON=N",
        type=key_value,
        action="append",
        default=[],
        help="judge every attempt so far by another limit (repeatable); an empty N is the default; "
        "what `resume` adds later is judged by the config",
    )
    _json(parser, "what changed")


def _resume(parser: Parser) -> None:
    _session(parser)
    _address(parser)
    _require(parser)
    parser.add_argument("--retry-failed", action="store_true", help="also try again the runs that ended as failed")
    parser.add_argument(
        "--allow-changed",
        action="store_true",
        help="go on although the config or the manifests changed since the start",
    )
    _less_strict(parser)
    _json(parser, "the results")


def _status(parser: Parser) -> None:
    parser.add_argument(
        "session", metavar="SESSION", type=path_text, nargs="?", help="only this session (default: everything)"
    )
    _every_node(parser)
    _json(parser, "the processes")


def _reap(parser: Parser) -> None:
    _every_node(parser)
    _json(parser, "what was ended")


_ADD_OPTIONS = {
    "run": _run,
    "plan": _plan,
    "list": _list,
    "doctor": _doctor,
    "measure": _measure,
    "show": _show,
    "compare": _compare,
    "export": _export,
    "import": _import,
    "coverage": _coverage,
    "report": _report,
    "reprocess": _reprocess,
    "resume": _resume,
    "status": _status,
    "reap": _reap,
}
