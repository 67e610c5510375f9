"""Reads YAML and JSON documents strictly: duplicate keys, odd numbers and broken files are faults, not surprises.

It knows nothing of what the keys mean; that is the business of `profiler.config` and `profiler.workloads`.
"""

from __future__ import annotations

import difflib
import json
import math
import numbers
import re
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import yaml

from profiler.errors import ConfigIssue

MAX_DOCUMENT_BYTES = 32 * 1024 * 1024
MAX_VALUES = 1_000_000
_MAX_SHOWN = 80
_INT = re.compile(r"^[-+]?[0-9][0-9_]*$|^0x[0-9a-fA-F_]+$|^0o[0-7_]+$")
_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|[0-9][0-9_]*[eE][-+]?[0-9]+)$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)
_EXPONENT = re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$")
_INT_TAG = "tag:yaml.org,2002:int"
_FLOAT_TAG = "tag:yaml.org,2002:float"
_REPLACED_TAGS = {_INT_TAG, _FLOAT_TAG, "tag:yaml.org,2002:timestamp"}


class DocumentError(Exception):
    """A document cannot be read. `issues` says where and why."""

    def __init__(self, issues: list[ConfigIssue]) -> None:
        self.issues = issues
        super().__init__("\n".join(str(issue) for issue in issues))


class _Loader(yaml.SafeLoader):
    """YAML with the number rules of version 1.2: `1e-3` is a number, `010` is ten, `1:30` and dates are text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        _refuse_duplicates(self, node)
        return super().construct_mapping(node, deep=deep)


def _refuse_duplicates(loader: _Loader, node: yaml.MappingNode) -> None:
    """Raise on a key that is written twice; keys that come in by `<<` may be overridden, that is what it is for."""
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is written twice in one mapping", key_node.start_mark
            )
        seen.add(key)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(node.value).replace("_", "")
    base = 16 if text.lower().startswith("0x") else 8 if text.lower().startswith("0o") else 10
    return int(text, base)


def _own_resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    resolvers = {
        first: [(tag, pattern) for tag, pattern in entries if tag not in _REPLACED_TAGS]
        for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for first in "-+0123456789.":
        resolvers.setdefault(first, []).extend([(_INT_TAG, _INT), (_FLOAT_TAG, _FLOAT)])
    return resolvers


_Loader.yaml_implicit_resolvers = _own_resolvers()
_Loader.add_constructor(_INT_TAG, _construct_int)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text. Raises yaml.YAMLError, RecursionError (nested too deeply) or ValueError."""
    return yaml.load(text, Loader=_Loader)  # a SafeLoader


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back: a text that looks like a number to either YAML version is quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.yaml_implicit_resolvers = {
    first: [
        *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
        *_Loader.yaml_implicit_resolvers.get(first, []),
    ]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def dump_yaml(value: Any) -> str:
    """`value` (mappings, lists, texts, numbers) as YAML that `parse_yaml` reads back to an equal value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def parse_json(text: str) -> Any:
    """The value of a JSON text; duplicate keys and NaN are ValueErrors."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in items:
            if key in out:
                raise ValueError(f"the key {key!r} is written twice in one mapping")
            out[key] = value
        return out

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not a number")

    return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)


def read_document(path: Path, what: str = "config") -> Mapping[Any, Any]:
    """The mapping in the YAML or (by suffix) JSON file `path`. Raises DocumentError that says why it cannot be read."""

    def refuse(message: str, suggestion: str | None = None) -> DocumentError:
        return DocumentError([ConfigIssue(str(path), "", None, message, suggestion)])

    text = _read_text(path, what, refuse)
    if not text.strip():
        raise refuse(f"the {what} file is empty")
    try:
        value = parse_json(text) if path.suffix.lower() == ".json" else parse_yaml(text)
    except yaml.MarkedYAMLError as error:
        raise refuse(_yaml_message(error)) from error
    except (yaml.YAMLError, ValueError) as error:
        raise refuse(f"cannot be read: {error}") from error
    except RecursionError as error:
        raise refuse("is nested too deeply") from error
    if value is None:
        raise refuse(f"the {what} file is empty")
    if not isinstance(value, Mapping):
        raise refuse(f"must be a mapping of keys to values, not {type_name(value)}")
    return value


def _read_text(path: Path, what: str, refuse: Any) -> str:
    try:
        if path.is_dir():
            raise refuse(f"is a directory, not a {what} file")
        if path.exists() and not path.is_file():
            raise refuse("is not a regular file")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise refuse("no such file", _nearest_file(path)) from error
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read: {error}") from error
    if len(data) > MAX_DOCUMENT_BYTES:
        raise refuse(f"is larger than {MAX_DOCUMENT_BYTES // 1024 // 1024} MiB, which no {what} file is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse(f"is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _nearest_file(path: Path) -> str | None:
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in {".yaml", ".yml", ".json"}]
    except OSError:
        return None
    match = nearest(path.name, names)
    return str(path.parent / match) if match else None


def _yaml_message(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return f"cannot be read: {error.problem or error.context}{place}"


def plain(value: Any) -> Any:
    """`value` with numpy-like numbers, tuples and paths turned into plain Python ones; anything else as it is.

    Raises RecursionError for one that holds itself, ValueError for one that is too large (aliases can make a small
    file mean a huge one) and for texts that can neither be an argument of a command nor be stored.
    """
    left = MAX_VALUES

    def convert(item: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"means more than {MAX_VALUES} values")
        if isinstance(item, str):
            return _passable(item)
        if item is None or isinstance(item, (bool, int, float)):
            return item
        if isinstance(item, Mapping):
            return {key: convert(part) for key, part in item.items()}
        if isinstance(item, (list, tuple)):
            return [convert(part) for part in item]
        if isinstance(item, PurePath):
            return str(item)
        if isinstance(item, numbers.Integral):
            return int(item)
        return float(item) if isinstance(item, numbers.Real) else item

    return convert(value)


def _passable(text: str) -> str:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"the text {ascii(text)[:80]} holds a character that no command line and no file can hold")
    return text


def as_number(value: Any) -> int | float | None:
    """`value` if it is a finite number (a bool is none), also from a text such as "1e-3" that YAML 1.1 readers
    leave a text; else None."""
    if isinstance(value, str) and _EXPONENT.match(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def show(value: Any) -> str:
    """`value` as one short line for a message."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = type_name(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def described(value: Any) -> str:
    """`value` with its type, for the end of "must be ..., not"."""
    if value is None or isinstance(value, bool):
        return show(value)
    return "an empty text" if value == "" else f"{show(value)} ({type_name(value)})"


def reportable(value: Any) -> Any:
    """`value` if JSON can carry it in a reasonable length, else a short text of it."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value)[:_MAX_SHOWN]
    return value if len(text) <= 1000 else show(value)


def type_name(value: Any) -> str:
    """What a user calls the type of `value`."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true/false"
    for kind, name in ((int, "an integer"), (float, "a number"), (str, "a text"), (Mapping, "a mapping")):
        if isinstance(value, kind):
            return name
    return "a list" if isinstance(value, (list, tuple)) else type(value).__name__


_SYNONYMS = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "droprate": "dropout",
    "total_epoch": "epochs",
    "random_state": "seed",
}


def nearest(name: Any, known: Iterable[str]) -> str | None:
    """The entry of `known` that is most like `name`, or None if none is."""
    if not isinstance(name, str) or len(name) > 200:
        return None
    by_plain: dict[str, str] = {}
    for entry in known:
        by_plain.setdefault(_squeeze(entry), entry)
    wanted = _squeeze(name)
    synonym = _squeeze(_SYNONYMS.get(name.lower(), ""))
    if synonym in by_plain:
        return by_plain[synonym]
    match = difflib.get_close_matches(wanted, by_plain, n=1, cutoff=0.6)
    return by_plain[match[0]] if match else None


def _squeeze(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
