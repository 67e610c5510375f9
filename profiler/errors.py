"""The error tree. One job: every error that a user may meet, and the exit code it ends the program with.

ProfilerError                 3   this machine or cluster cannot do it
|-- ConfigError               2   one or more faults in a config; carries all of them
|-- UsageError                2   the command line or an argument is wrong
|-- SessionError              2   a session folder is missing, unreadable or in use
|-- CannotRunError            3   something the campaign needs is absent here (trainer, sensor, disk, permission)
|   |-- ContainmentError      3   no way to contain a run's processes
|   `-- NotCopiedError        3   the campaign has ended, but not all of its files are at the URI of its results
`-- CampaignInterruptedError  130 stopped by the user; everything is ended and the session can be resumed
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ConfigIssue:
    """One fault of a config: `file`, key `path` such as ``experiments[2].foreground.repo``, the `value` seen,
    a `message` saying what is wrong and what is allowed, and the nearest known name as `suggestion` (or None)."""

    file: str
    path: str
    value: Any
    message: str
    suggestion: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        place = f"{self.file}: {self.path}" if self.path else self.file
        hint = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        return f"{place}: {self.message}{hint}"


class ProfilerError(Exception):
    """Base of all errors raised on purpose. `exit_code` is what the command line ends with."""

    exit_code = 3


class ConfigError(ProfilerError):
    """A config is wrong. `issues` holds every fault of it, not only the first."""

    exit_code = 2

    def __init__(self, issues: list[ConfigIssue]) -> None:
        self.issues = issues
        super().__init__("\n".join(str(issue) for issue in issues))


class UsageError(ProfilerError):
    """The command line or a function argument is wrong."""

    exit_code = 2


class SessionError(ProfilerError):
    """A session folder is missing, is not one, or is in use by another driver."""

    exit_code = 2


class CannotRunError(ProfilerError):
    """This machine or cluster lacks what the campaign needs."""


class ContainmentError(CannotRunError):
    """No way to contain a run's processes here."""


class NotCopiedError(CannotRunError):
    """The campaign has ended and its session is whole in folder `root`; the files `missing` are not at the URI."""

    def __init__(self, message: str, root: Path, missing: list[str]) -> None:
        self.root = root
        self.missing = missing
        super().__init__(message)


class CampaignInterruptedError(ProfilerError):
    """Stopped by the user; every process is ended and the session can be resumed."""

    exit_code = 130
