"""Collects the faults of one config, so that all of them are told at once. It judges nothing itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from profiler.documents import reportable
from profiler.errors import ConfigError, ConfigIssue


class Faults:
    """The faults found so far in the config called `file`."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.issues: list[ConfigIssue] = []
        self.overridden: dict[str, str] = {}
        """Key path -> the `--set` option it came from: a fault there is told of the option, not of the file."""

    def add(self, path: str, value: Any, message: str, suggestion: str | None = None) -> None:
        issue = ConfigIssue(self._source(path), path, reportable(value), message, suggestion)
        if issue not in self.issues:
            self.issues.append(issue)

    def extend(self, issues: Iterable[ConfigIssue]) -> None:
        self.issues.extend(replace(issue, value=reportable(issue.value)) for issue in issues)

    def raise_if_any(self) -> None:
        """Raise ConfigError with everything found."""
        if self.issues:
            raise ConfigError(self.issues)

    def _source(self, path: str) -> str:
        for prefix, option in self.overridden.items():
            if path == prefix or path.startswith((f"{prefix}.", f"{prefix}[")):
                return f"{self.file} with {option}"
        return self.file
