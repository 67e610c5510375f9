"""Reads the original's features.csv (and the report list beside it); standard library and numpy only."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _kit.data import whole_row
from _kit.errors import DataError
from candidates import FEATURES, Candidates

FOLDERS = ("bug-localization", "bug-localization-by-dnn-and-rvsm/data", "data", ".")
TABLE = "features.csv"
COLUMNS = ("report_id", "file", *FEATURES, "match")
LAYOUT = f"bug-localization/{TABLE} with the columns {', '.join(COLUMNS)}, and the list of reports {{NAME}}.txt"
SOURCE = "the data folder of the original repository (emredogan7/bug-localization-by-dnn-and-rvsm)"
REPORT_COLUMNS = {"id", "bug_id", "summary", "description", "files"}
LONGEST_HEADER = 10_000
LARGEST_FIELD = 2**31 - 1
LONGEST_WORDS = 200
REDUCED_REPORTS = 100


class Row(NamedTuple):
    """A report, a file, the features of the pair, and whether the report's fix changed the file."""

    report: str
    file: str
    features: list[float]
    match: bool


def find_table(root: Path) -> Path | None:
    """The features.csv below a data root, None when there is none; DataError for a list of reports without one, and
    for the set's own folder without both, unless that is a repository."""
    folders = [root / folder for folder in FOLDERS]
    for folder in folders:
        if (folder / TABLE).is_file():
            return folder / TABLE
    for folder in folders:
        lists = [path for path in sorted(folder.glob("*.txt")) if _is_report_list(path)]
        if lists:
            raise DataError(f"{lists[0]} is a list of reports; missing beside it: {TABLE}\n  source: {SOURCE}")
    if folders[0].is_dir() and not any((folders[0] / name).exists() for name in (".git", "HEAD")):
        raise DataError(f"{folders[0]} holds no {TABLE}\n  layout: {LAYOUT}\n  source: {SOURCE}")
    return None


def read_table(path: Path, size: str) -> tuple[str, Candidates]:
    """The name of the set and the candidates of its reports, those with a right file only, in the table's order."""
    name, known = _report_list(path.parent)
    rows = _rows(path)
    _refuse_contradictions(path, rows)
    answered = dict.fromkeys(row.report for row in rows if row.match)
    if known is not None and not answered.keys() & known:
        raise DataError(f"{path} and the list of reports beside it have no report in common")
    order = {report: number for number, report in enumerate(list(answered)[: _limit(size)])}
    kept = [row for row in rows if row.report in order]
    if len(order) < 2:
        raise DataError(f"{path} holds {len(order)} reports with a right file; at least two are needed")
    return name, Candidates(
        np.array([row.features for row in kept]),
        np.array([row.match for row in kept]),
        np.array([order[row.report] for row in kept]),
    )


def _rows(path: Path) -> list[Row]:
    csv.field_size_limit(LARGEST_FIELD)
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file)
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{path} lacks the columns {', '.join(missing)}")
        return [_row(path, reader.line_num, whole_row(path, reader.line_num, row)) for row in reader]


def _limit(size: str) -> int | None:
    return REDUCED_REPORTS if size == "reduced" else None


def _row(path: Path, line: int, row: dict[str, str]) -> Row:
    try:
        values = [float(row[name]) for name in FEATURES]
        match = float(row["match"])
    except ValueError as error:
        raise DataError(f"{path}, line {line}: {str(error)[:LONGEST_WORDS]}") from error
    if not np.isfinite(values).all():
        raise DataError(f"{path}, line {line}: a feature is not finite")
    if match not in (0, 1):
        raise DataError(f"{path}, line {line}: match must be 0 or 1, not {row['match'].strip()}")
    return Row(row["report_id"].strip(), row["file"].strip(), values, match == 1)


def _refuse_contradictions(path: Path, rows: Sequence[Row]) -> None:
    """DataError if a report has a file as a right and as a wrong one. A wrong file may well be there twice: the
    original draws wrong files for each right file of a report anew."""
    right = {(row.report, row.file) for row in rows if row.match}
    for row in rows:
        if not row.match and (row.report, row.file) in right:
            raise DataError(f"{path}: report {row.report} has {row.file} both as a right and as a wrong file")


def _report_list(folder: Path) -> tuple[str, set[str] | None]:
    """The name of the report list beside the table and the ids in it (both kinds), None when there is no list."""
    for path in sorted(folder.glob("*.txt")):
        if _is_report_list(path):
            return path.stem, _report_ids(path)
    return "features", None


def _report_ids(path: Path) -> set[str]:
    csv.field_size_limit(LARGEST_FIELD)
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = [(row["id"], row["bug_id"]) for row in csv.DictReader(file, delimiter="\t")]
    return {name.strip() for pair in rows for name in pair if name}


def _is_report_list(path: Path) -> bool:
    """By its header alone: any file can lie in a data root, however long its lines are."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return set(file.readline(LONGEST_HEADER).rstrip("\n").split("\t")) >= REPORT_COLUMNS
