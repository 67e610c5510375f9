"""Tables for people. On a terminal they fit its width; elsewhere a row is one line and nothing is cut off.

Columns in which nothing is known are left out. Where a table is too wide for the terminal, its long texts stand below
the row instead of in columns of their own. Plain characters only: no colour, no bold.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from profiler.cli import output

EMPTY = "-"
GAP = "   "


@dataclass(frozen=True)
class Heading:
    """One column: its title, whether it holds figures (right-aligned), and whether it is a `long` text."""

    title: str
    figures: bool = False
    long: bool = False


def print_table(headings: Sequence[Heading], rows: Iterable[Sequence[str]]) -> None:
    """Prints rows of text cells to stdout, and an empty line after them."""
    width = output.terminal_width() if output.is_terminal(sys.stdout) else None
    output.print_result("\n".join(lines_of(headings, list(rows), width)) + "\n")


def lines_of(headings: Sequence[Heading], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The table as lines. Over `width` characters (None: no limit) long texts go below their row, folded to it, and
    then as many of the last columns as it takes. What would break a line stands there escaped, a new line as \\n."""
    rows = [tuple(map(_in_one_line, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip([heading.title for heading in headings], *rows, strict=True)]
    kept = [n for n in range(len(headings)) if not rows or any(row[n] != EMPTY for row in rows)]
    shown = kept
    if width is not None and _total(widths, kept) > width:
        shown = [n for n in kept if not headings[n].long]
        while len(shown) > 1 and _total(widths, shown) > width:
            shown = shown[:-1]
    below = [n for n in kept if n not in shown]

    def line(cells: Sequence[str]) -> str:
        padded = (cells[n].rjust(widths[n]) if headings[n].figures else cells[n].ljust(widths[n]) for n in shown)
        return GAP.join(padded).rstrip()

    lines = [line([heading.title for heading in headings]), "-" * _total(widths, shown)]
    for row in rows:
        lines.append(line(row))
        for n in below:
            lines += _folded(f"{headings[n].title}: {row[n]}", width) if row[n] != EMPTY else []
    return lines


def _in_one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _total(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[n] for n in shown) + len(GAP) * (len(shown) - 1)


def _folded(text: str, width: int | None) -> list[str]:
    return textwrap.wrap(
        text,
        max(40, width or 0),
        initial_indent=" " * 4,
        subsequent_indent=" " * 6,
        break_long_words=False,
        break_on_hyphens=False,
    )
