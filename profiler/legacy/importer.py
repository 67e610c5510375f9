"""Imports an old result tree as a session of its own: whole, or not at all. The tree is only read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from profiler.errors import SessionError
from profiler.legacy.audit import Audit, make_audit, markdown
from profiler.legacy.checks import check_all
from profiler.legacy.found import ENERGY, RECORD, Tree, search
from profiler.legacy.rows import NODE, Imported, plan_entry, run_row, sample_table
from profiler.legacy.sources import collect
from profiler.store import ledger, write
from profiler.store.files import cannot_write, write_whole
from profiler.store.layout import SessionFolder, create_session, utc_now
from profiler.store.ledger import Ledger
from profiler.workloads import Catalog, load_catalog

AUDIT_JSON, AUDIT_TEXT = "audit.json", "audit.md"
ORIGINAL = "original"
"""Copies of the imported files: in each run's folder, and of the summaries in the session's."""


def import_tree(
    directory: Path,
    results: Path,
    *,
    trusted: bool = False,
    catalog: Catalog | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> tuple[SessionFolder, Audit]:
    """A new session under `results` with every run below `directory`, and the audit. `trusted`: the user vouches that
    nothing else used the GPU.

    Raises SessionError where there is nothing to import, CannotRunError where the session cannot be written.
    """
    tree = search(directory)
    runs, skipped = collect(tree)
    if not runs:
        problems = "; ".join(f"{one.path} {one.problem}" for one in skipped[:5])
        raise SessionError(f"nothing in {directory} could be read: {problems}")
    imported = check_all(runs, load_catalog() if catalog is None else catalog, trusted=trusted)
    when = clock()
    folder = create_session(results, lambda: when)
    with _whole_or_not_at_all(folder):
        rows = _write(folder, tree, imported)
        audit = make_audit(tree.root, folder.session_id, when, imported, rows, skipped, trusted=trusted)
        write_whole(folder.root / AUDIT_TEXT, markdown(audit).encode())
        write_whole(folder.root / AUDIT_JSON, json.dumps(audit, indent=2, ensure_ascii=False).encode() + b"\n")
    return folder, audit


def earlier_imports(directory: Path, results: Path) -> list[str]:
    """Sessions under `results` that are imports of the same folder."""
    source = str(directory.resolve())
    return [path.parent.name for path in sorted(results.glob(f"*/{AUDIT_JSON}")) if _source_of(path) == source]


def _source_of(audit: Path) -> str | None:
    try:
        document = json.loads(audit.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document.get("source") if isinstance(document, dict) else None


@contextmanager
def _whole_or_not_at_all(folder: SessionFolder) -> Iterator[None]:
    """Removes the new session when its writing is stopped by an error or by the user: the source is still there."""
    try:
        yield
    except BaseException as error:
        shutil.rmtree(folder.root, ignore_errors=True)
        if isinstance(error, OSError):
            raise cannot_write(folder.root, error) from error
        raise


def _write(folder: SessionFolder, tree: Tree, imported: Sequence[Imported]) -> list[dict[str, Any]]:
    write.write_plan(folder, {"seed": None, "runs": [plan_entry(one) for one in imported]})
    rows = [_write_run(folder, tree, one) for one in imported]
    write.refresh_summaries(folder, rows)
    for path in tree.summaries:
        _copy(path, folder.root / ORIGINAL / path.relative_to(tree.root))
    Ledger(folder.ledger).append({"event": ledger.IMPORTED, "source": str(tree.root), "runs": len(rows)})
    write.finish(folder)
    return rows


def _write_run(folder: SessionFolder, tree: Tree, one: Imported) -> dict[str, Any]:
    row = run_row(one, folder.session_id, folder.run_id(one.index), tree.root)
    if one.run.folder is not None:
        _copy_files(one.run.folder, folder.run_folder(one.experiment_id) / ORIGINAL)
    if one.run.trace.ticks:
        write.write_sample_table(folder, NODE, one.boot_id, sample_table(one))
    whole = write.write_run(folder, row)
    write.write_experiment_json(folder, whole)
    return whole


def _copy_files(source: Path, target: Path) -> None:
    """The record and the energy files, byte for byte."""
    for path in (source / RECORD, *sorted((source / ENERGY).glob("*"))):
        if path.is_file():
            _copy(path, target / path.relative_to(source))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
