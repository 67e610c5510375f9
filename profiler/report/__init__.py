"""The report on a session: one self-contained HTML file for eyes, paper and screen readers.

It reads what is stored and measures nothing. `document` computes, `page` shows, this module writes the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import CannotRunError, UsageError
from profiler.report.document import Tell, make_document
from profiler.report.page import GENERATOR, render
from profiler.store.files import whole_file

if TYPE_CHECKING:
    from profiler.store.read import Session

_HEAD_BYTES = 2000


def write_report(
    session: Session, path: str | Path, *, traces: Sequence[str] = (), tell: Tell = lambda text: None
) -> Path:
    """Write the report on `session` to `path`, whole or not at all, in the place of an older report. Returns the path.

    `traces`: runs (run_id or experiment_id) whose power traces it shows in any case. `tell` is called with words on
    long work. UsageError when `path` is a folder or a file that is no report, SessionError for an unknown run,
    CannotRunError when the file cannot be written.
    """
    target = Path(path)
    _refuse_other_files(target)
    document = make_document(session, traces, tell)
    tell("writing the page")
    text = "".join(render(document)).encode()
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(text)  # /dev/stdout, a pipe: what is no file must not be replaced by one
        else:
            _write(target.resolve(), text)
    except OSError as error:
        raise CannotRunError(f"cannot write {target}: {error.strerror or error}; name another file with -o") from error
    return target


def _write(path: Path, text: bytes) -> None:
    try:
        with whole_file(path) as file:
            file.write(text)
    except CannotRunError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise


def _refuse_other_files(target: Path) -> None:
    """A slip of the hand must not cost a file that somebody wrote."""
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file, for example {target / 'report.html'}")
    if not target.is_file() or target.stat().st_size == 0:
        return
    with target.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if f'content="{GENERATOR}"'.encode() not in head:
        raise UsageError(f"{target} exists and is not a report of this program; name another file, or remove it first")
