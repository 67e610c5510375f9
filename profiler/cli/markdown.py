"""Makes `docs/cli.md` from the grammar, so that the page cannot be wrong. Writes no file."""

from __future__ import annotations

import argparse

from profiler.cli.parser import COMMANDS, CommandSpec, Parser, build_parser, subparsers_of

HEAD = """\
# Command line

<!-- made from profiler/cli/parser.py; do not edit -->

Results go to stdout, progress and warnings to stderr. With `--json` stdout carries one JSON document and nothing else;
what is refused then comes as `{"errors": [{"file", "path", "value", "message", "suggestion"}]}`. There is no colour and
no live table when stderr is not a terminal, and no colour where `NO_COLOR` is set. Ctrl-C, SIGTERM and a closed
terminal stop everything that was started before the program ends.

| exit code | meaning |
|---|---|
| 0 | every planned run has a valid final attempt |
| 1 | some planned run has not |
| 2 | the config or the command line is wrong; nothing was started |
| 3 | this machine or cluster cannot do it |
| 130 | interrupted; everything is stopped and the session can be resumed |

`profiler measure` ends with the code of the measured command, 128 + n if signal n ended it, 130 if Ctrl-C did, and 3
if it cannot be contained. `profiler show` ends with 0 whatever the runs were. `profiler doctor` ends with 3 where
campaigns cannot run.
"""


def cli_markdown() -> str:
    """The whole page."""
    parsers = subparsers_of(build_parser())
    index = ["| command | does |", "|---|---|"]
    index += [f"| [`profiler {spec.name}`](#profiler-{spec.name}) | {spec.summary} |" for spec in COMMANDS]
    parts = [HEAD, "\n".join(index) + "\n"]
    parts += [_section(spec, parsers[spec.name]) for spec in COMMANDS]
    return "\n".join(parts)


def _section(spec: CommandSpec, parser: Parser) -> str:
    lines = [f"## profiler {spec.name}", "", parser.description or "", "", "```"]
    lines += [*_usage(parser), "```", ""]
    rows = [_row(action) for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    if rows:
        lines += ["| option | meaning |", "|---|---|", *rows, ""]
    lines += ["Examples:", "", "```", *spec.examples, "```", ""]
    return "\n".join(lines)


def _usage(parser: Parser) -> list[str]:
    """One line for each form; argparse's own depends on the terminal's width."""
    if parser.usage:
        return [line.strip() for line in parser.usage.splitlines()]
    words = [parser.prog]
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    for action in sorted(actions, key=lambda action: bool(action.option_strings)):
        name = " ".join([*action.option_strings[-1:], *_value_name(action)])
        words.append(name if action.required else f"[{name}]")
    return [" ".join(words)]


def _row(action: argparse.Action) -> str:
    value = " ".join(_value_name(action))
    if action.option_strings:
        shown = ", ".join(f"`{option} {value}`" if value else f"`{option}`" for option in action.option_strings)
    else:
        shown = f"`{value}`"
    return f"| {shown} | {_escaped(action.help or '')} |"


def _value_name(action: argparse.Action) -> list[str]:
    if action.nargs == 0:
        return []
    if action.choices is not None:
        return ["{" + ",".join(str(choice) for choice in action.choices) + "}"]
    return [str(action.metavar)]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
