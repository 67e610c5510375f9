"""A folder at a URI (file://, s3://, gs://, abfs:// ... by pyarrow.fs) into which whole files are put. It decides not
which, and nothing of it is read."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit, urlunsplit

from profiler.errors import CannotRunError, UsageError

PIECE_BYTES = 4 << 20
OPEN_TIMEOUT_S = 60.0
SCHEMES = "file:///folder, s3://bucket/folder, gs://bucket/folder, abfs://container@account/folder"
COPY_FIRST = (
    "copy it first, for example with: python -c \"import pyarrow.fs; pyarrow.fs.copy_files('URI/run_20260101_000000', "
    "'run_20260101_000000')\"; to go on with a campaign give `profiler resume` the working folder that `run` named"
)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_USER = re.compile(r"^(?!file:)([^:/]+:/+)(.*)@", re.IGNORECASE | re.DOTALL)  # up to the last @: a / can be a secret's
_SECRET = re.compile(
    "secret|password|pwd|token|signature|credential|authorization|connection_?string|^s(ig|as)$|key$", re.IGNORECASE
)
_OBJECT_STORES = ("s3", "gcs", "abfs")  # no folders, and an object appears when it is whole


def is_uri(text: str) -> bool:
    """Whether `text` means a URI, also one that went through pathlib (s3:/bucket), and no folder here."""
    return _URI.match(text) is not None and not Path(text).exists()


def refuse_uri(results: str) -> None:
    """Raises UsageError where only a folder will do."""
    if is_uri(results):
        raise UsageError(
            f"--results {shown(results)}: a folder of this machine is needed here; only `run` copies to a URI"
        )


def shown(uri: str) -> str:
    """`uri` for people: user and query, in which a secret can stand, are not told."""
    start, query, _ = _USER.sub(r"\1***@", uri, count=1).partition("?")
    return f"{start}?***" if query else start


class Store:
    """`base` of `filesystem` (a pyarrow.fs.FileSystem), shown to people as `uri`. Errors are OSErrors."""

    def __init__(self, uri: str, filesystem: Any, base: str) -> None:
        self.uri = uri
        self._filesystem = filesystem
        self._base = base.rstrip("/")
        self._objects = filesystem.type_name in _OBJECT_STORES

    def below(self, name: str) -> Store:
        """The folder `name` in this one."""
        parts = urlsplit(self.uri)
        uri = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))
        return Store(uri, self._filesystem, f"{self._base}/{name}")

    def put(self, source: Path, name: str) -> None:
        """The file `source`, as it is now, becomes the file `name`; a half one is never seen."""
        with source.open("rb") as file:
            self._put(name, lambda out: _copy(file, out))

    def remove(self, name: str) -> None:
        """Nothing of that name is there afterwards."""
        with suppress(FileNotFoundError):
            self._filesystem.delete_file(f"{self._base}/{name}")

    def claim(self, name: str) -> bool:
        """Whether this folder is free, and from now on taken by the hidden file `name`, which stays. Of two that claim
        it at the same time at most one succeeds: each writes before it looks."""
        self._put(name, lambda out: out.write(b"profiler"))
        if self._names() == [name]:
            return True
        self.remove(name)
        return False

    def give_up(self, name: str) -> None:
        """Take a claim back, and the folder with it where nothing else is in it."""
        self.remove(name)
        if not self._objects and not self._names():
            self._filesystem.delete_dir(self._base)

    def _names(self) -> list[str]:
        from pyarrow.fs import FileSelector

        return [found.base_name for found in self._filesystem.get_file_info(FileSelector(self._base))]

    def probe(self) -> None:
        """Write a small file and remove it again."""
        name = f".profiler-{secrets.token_hex(8)}"
        self._put(name, lambda out: out.write(b"profiler"))
        self._filesystem.delete_file(f"{self._base}/{name}")

    def _put(self, name: str, write: Callable[[BinaryIO], int]) -> None:
        target = f"{self._base}/{name}"
        folder, _, last = target.rpartition("/")
        first = target if self._objects else f"{folder}/.{last}.part"
        if not self._objects:
            self._filesystem.create_dir(folder, recursive=True)
        try:
            with self._filesystem.open_output_stream(first) as out:
                written = write(out)
            found = self._filesystem.get_file_info(first).size
            if found != written:
                raise OSError(f"{name} has {found} bytes there, {written} were sent")
            if first != target:
                self._filesystem.move(first, target)
        except BaseException:
            if first != target:  # an object that is there is the file as it was before, which is better than none
                with suppress(OSError):
                    self._filesystem.delete_file(first)
            raise


def _copy(file: BinaryIO, out: BinaryIO) -> int:
    written = 0
    while piece := file.read(PIECE_BYTES):
        out.write(piece)
        written += len(piece)
    return written


def open_store(uri: str) -> Store:
    """The folder at `uri`, in which a file was written and removed just now.

    Raises UsageError when no such URI can be, CannotRunError when the store cannot be reached or written."""
    try:
        if secret := _secret_in(uri):
            raise UsageError(
                f"--results: a {secret} does not belong in a URI, which is printed and kept: give it as the store's "
                "own tools take it (AWS_SECRET_ACCESS_KEY, ~/.aws, AZURE_CLIENT_SECRET)"
            )
        return _within(OPEN_TIMEOUT_S, lambda: _opened(uri))
    except (ValueError, NotImplementedError) as error:
        raise UsageError(
            f"--results {shown(uri)}: {_reason(uri, error)}\nuse a folder, or one of {SCHEMES} (a space is %20 there)"
        ) from error
    except OSError as error:
        raise CannotRunError(
            f"results cannot be put at {shown(uri)}: {_reason(uri, error)}\n"
            "check its name, that it can be reached from here, and that you may write and delete there"
        ) from error


def _secret_in(uri: str) -> str | None:
    """What in a URI nobody else may know: "password", or the name of a part of its query such as client_secret."""
    user = _USER.match(uri)
    if user and ":" in user[2]:
        return "password"
    names = (unquote(part.partition("=")[0]) for part in re.split("[&;]", uri.partition("?")[2]))
    return next((name for name in names if _SECRET.search(name)), None)


def _reason(uri: str, error: Exception) -> str:
    """What the error says, without what `shown` does not tell."""
    return first_line(error).replace(uri, shown(uri))


def _opened(uri: str) -> Store:
    from pyarrow.fs import FileSystem

    filesystem, base = FileSystem.from_uri(uri)
    if filesystem.type_name not in ("local", "hdfs", *_OBJECT_STORES):  # pyarrow's "mock" forgets what it is given
        raise ValueError(f"nothing is kept in a file system of type {filesystem.type_name}")
    if not base.strip("/"):
        raise ValueError("it names no bucket or folder")
    store = Store(uri, filesystem, base)
    store.probe()
    return store


def _within(seconds: float, function: Callable[[], Store]) -> Store:
    """Its result. TimeoutError when it takes longer: some stores are tried for a quarter of an hour."""
    answer: Future[Store] = Future()

    def work() -> None:
        try:
            answer.set_result(function())
        except (OSError, ValueError, NotImplementedError) as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True, name="open-store").start()
    try:
        return answer.result(seconds)
    except TimeoutError as error:
        if answer.done():
            raise
        raise TimeoutError(f"no answer within {seconds:g} s") from error


def first_line(error: Exception) -> str:
    """What the error says, without the lines that a store's library adds to it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
