"""``profiler import``: old result folders as a session of this tool, with an audit of what is wrong in them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profiler.cli import output
from profiler.cli.tables import Heading, print_table
from profiler.shell import quoted

SOMETHING_UNREADABLE = 1
_UNREADABLE_RUN = ("record_missing", "record_damaged", "damaged_files")
_SHOWN = 20

HEADINGS = (Heading("finding"), Heading("level"), Heading("runs", figures=True), Heading("meaning", long=True))


def execute(options: Namespace) -> int:
    """Imports and prints the audit. 0 when everything that was found could be read, 1 when something could not."""
    from profiler.legacy.importer import AUDIT_TEXT, earlier_imports, import_tree
    from profiler.store.remote import refuse_uri

    refuse_uri(options.results)
    source, results = Path(options.directory), Path(options.results)
    for name in earlier_imports(source, results):
        output.say(f"warning: the same folder was imported before, as {results / name}; this makes another session")
    folder, audit = import_tree(source, results, trusted=options.trust_conditions)
    path = results / folder.session_id
    if options.json:
        output.print_json({**audit, "path": str(path)})
    else:
        _print(audit, path, AUDIT_TEXT)
    return SOMETHING_UNREADABLE if _unreadable(audit) else 0


def _unreadable(audit: Mapping[str, Any]) -> bool:
    return any(one["lost"] for one in audit["skipped"]) or any(name in audit["findings"] for name in _UNREADABLE_RUN)


def _print(audit: Mapping[str, Any], path: Path, audit_name: str) -> None:
    rows = [(name, found["level"], str(found["runs"]), found["meaning"]) for name, found in audit["findings"].items()]
    print_table(HEADINGS, rows)
    left_out = [f"{one['path']}: {one['problem']}" for one in audit["skipped"]]
    for line in left_out[:_SHOWN]:
        output.print_result(f"left out: {line}")
    if len(left_out) > _SHOWN:
        output.print_result(f"and {len(left_out) - _SHOWN} more, see the audit")
    counts = audit["counts"]
    output.print_result(
        f"{counts['runs']} runs imported, {counts['parallel']} parallel, {counts['samples']} samples: "
        f"{counts['valid']} valid, {counts['safe']} safe, {counts['failed']} failed; {len(left_out)} entries left out"
    )
    output.print_result(f"audit   {path / audit_name}")
    output.print_result(f"next    profiler show {quoted(path)}")
