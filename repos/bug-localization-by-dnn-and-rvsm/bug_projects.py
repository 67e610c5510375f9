"""What a software project is to this trainer: bug reports in order of time, and the files that each could mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """One bug report: when (days since any fixed day), its words, the files that its fix changed, and the files there
    were then (path to the number of its text in `Project.texts`)."""

    name: str
    day: float
    words: Sequence[str]
    fixed: frozenset[str]
    files: Mapping[str, int]


@dataclass(frozen=True)
class Project:
    """`texts` holds the words of every version of every file; reports refer to them by number."""

    source: str
    reports: Sequence[Report]
    texts: Sequence[Sequence[str]]
