"""Turns a document into the one HTML file: templates, styles and charts put together. It computes no figure.

The page has no script and names no other file; its policy forbids both. Every text of the session is escaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from profiler._version import __version__
from profiler.analysis.coverage import GroupCoverage, ParameterCoverage
from profiler.analysis.results import Figure, GroupEffects, Mediation, OutcomeEffects
from profiler.report import charts
from profiler.report.document import Document
from profiler.report.groups import ENERGIES, STATES, Group
from profiler.report.numbers import UNKNOWN, Spread, figure, signed_percent, with_unit
from profiler.report.svg import element, shortened

GENERATOR = "profiler report"
SECTIONS = (
    ("glance", "At a glance"),
    ("runs", "What was run and what not"),
    ("safe", "Safe runs against all"),
    ("energy", "Energy by model and mode"),
    ("traces", "Power traces"),
    ("tradeoff", "Quality against energy"),
    ("pairs", "Co-location"),
    ("effects", "Effects of the hyperparameters"),
    ("coverage", "Coverage"),
    ("verdicts", "Every verdict with its evidence"),
    ("measured", "How the figures were measured"),
)
LIST_TITLES = {
    "failed": "Failed runs",
    "contaminated": "Contaminated runs",
    "retried": "Attempts after which another one followed",
    "unfinished": "Runs without a final attempt",
    "not run": "Runs that were not started",
    "safe": "Safe runs",
}
MODE_WORDS = {
    "solo": "alone",
    "parallel": "with a background",
    "both": "with a background compared with alone",
}
LIST_LENGTH = 500
MOST_INTERVALS = 48
OPEN_LENGTH = 60
MOST_CHARACTERS = 1000
UNBROKEN = 40
_TEMPLATES = Path(__file__).parent / "templates"


def render(document: Document) -> Iterator[str]:
    """The page in pieces, in order."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": figure,
        "with_unit": with_unit,
        "signed_percent": signed_percent,
        "pairs": _pairs,
        "name": _name,
        "bounded": _bounded,
        "interval": _interval,
        "moment": _moment,
    }
    environment.globals |= {
        "generator": GENERATOR,
        "version": __version__,
        "sections": SECTIONS,
        "css": Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "states": STATES,
        "list_titles": LIST_TITLES,
        "list_length": LIST_LENGTH,
        "open_length": OPEN_LENGTH,
        "energy_labels": [label for _, label in ENERGIES],
        "energy_entries": _energy_entries,
        "energy_reasons": _energy_reasons,
        "mode_words": MODE_WORDS,
        "coverage_names": _coverage_names,
        "covered": _covered,
        "interval_entries": _interval_entries,
        "mediations": _mediations,
        "intervals": charts.intervals,
        "swatch": _swatch,
        "boxes": charts.boxes,
        "power": charts.power,
        "scatter": charts.scatter,
        "state_bar": charts.state_bar,
    }
    return environment.get_template("report.html").generate(doc=document)


def _pairs(values: Mapping[str, Any]) -> Markup:
    """`name=value name=value`. No line ends within a pair: half a number is another number."""
    texts = [f"{name}={_value(value)}" for name, value in values.items()]
    return Markup(" ").join(_whole(text) if len(text) <= UNBROKEN else escape(text) for text in texts)


def _name(text: str) -> Markup:
    """A name of a run, whose lines end behind its underscores where it is too long for one."""
    return Markup("_<wbr>").join(text.split("_"))


def _whole(text: str) -> Markup:
    return Markup('<span class="whole">{}</span>').format(text)


def _value(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else shortened(str(value), MOST_CHARACTERS)


def _bounded(text: str) -> str:
    """A log's last words can be a book; the dataset has all of it."""
    return shortened(text, MOST_CHARACTERS)


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _energy_entries(groups: Sequence[Group], label: str) -> list[tuple[str, Spread]]:
    """(model and mode, spread over safe runs) of the groups that know this energy."""
    found = [(f"{group.name}, {group.mode}", group.compared(label).safe) for group in groups]
    return [(name, spread) for name, spread in found if spread is not None]


def _energy_reasons(groups: Sequence[Group], label: str) -> list[tuple[str, int]]:
    column = next(column for column, name in ENERGIES if name == label)
    return _added(pair for group in groups for pair in group.reasons[column])


def _interval(estimate: Figure | None) -> str:
    if estimate is None:
        return UNKNOWN
    return f"{figure(estimate.value, 3)} ({figure(estimate.low, 3)} to {figure(estimate.high, 3)})"


def _interval_entries(group: GroupEffects) -> list[tuple[str, Figure, bool]]:
    """(outcome and term, standardised effect, significant), all of the group; only significant ones where that is too
    much for a chart: the table has them all."""
    found = [
        (f"{outcome.outcome}: {effect.term}", effect.standardised, effect.significant)
        for outcome in group.outcomes
        for effect in outcome.effects
    ]
    return found if len(found) <= MOST_INTERVALS else [entry for entry in found if entry[2]][:MOST_INTERVALS]


def _mediations(group: GroupEffects) -> list[tuple[OutcomeEffects, Mediation]]:
    return [(outcome, path) for outcome in group.outcomes for path in outcome.mediations if path.significant]


def _coverage_names(groups: Sequence[GroupCoverage]) -> list[str]:
    """Every hyperparameter that one of the groups can mutate, in order of appearance."""
    return list(dict.fromkeys(parameter.name for group in groups for parameter in group.parameters))


def _covered(group: GroupCoverage, name: str) -> ParameterCoverage | None:
    return next((parameter for parameter in group.parameters if parameter.name == name), None)


def _added(pairs: Iterator[tuple[str, int]]) -> list[tuple[str, int]]:
    counts: Counter[str] = Counter()
    for reason, count in pairs:
        counts[reason] += count
    return counts.most_common()


def _swatch(kind: str, style: str) -> Markup:
    """A sample of a line, an area or a dot for a legend."""
    shapes = {
        "line": element("line", class_=style, x1=1, x2=25, y1=6, y2=6),
        "rect": element("rect", class_=style, x=1, y=1, width=24, height=10),
        "dot": element("path", class_=style, d="M13 6h0"),
    }
    return element("svg", shapes[kind], class_="chart", viewBox="0 0 26 12", aria_hidden="true")
