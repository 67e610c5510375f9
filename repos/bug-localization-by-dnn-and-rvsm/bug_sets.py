"""Chooses the bug reports of a training: the original's table, a git history in the data root, or generated ones."""

from dataclasses import dataclass, replace
from pathlib import Path

import feature_table
import generated_project
import git_project
import numpy as np
from _kit.data import Provenance, data_root, digest, missing_data
from candidates import Candidates, find_candidates

HISTORY_LAYOUT = "a git repository: the data folder itself or a folder in it"


@dataclass(frozen=True)
class BugSet:
    """Candidates of all reports; `size` made them."""

    candidates: Candidates
    size: str
    provenance: Provenance


def load_bug_set(data: Path | None, source: str, size: str, seed: int, shuffle: bool = False) -> BugSet:
    """The candidates for one training; DataError when the wanted ones are nowhere.

    `source`: "original" is the table, "packaged" a git history (in the data root, else the one this file lies in).
    `seed` draws the wrong files of a history's or a generated project's reports. `shuffle` gives each report's answers
    to other files of it, to train and to test on: then every ranking is as good as chance.
    """
    name, candidates = _find(data, source, size, seed)
    if shuffle:
        name += " shuffled-labels"
        candidates = shuffled(candidates, seed)
    text = f"{name} reports={candidates.reports} rows={len(candidates.right)}"
    parts = (candidates.features, candidates.right, candidates.report)
    return BugSet(candidates, size, Provenance(text, digest(parts)))


def shuffled(candidates: Candidates, seed: int) -> Candidates:
    """The candidates with the answers of each report in random order."""
    draws = np.random.default_rng(seed)
    right = candidates.right.copy()
    for report in range(candidates.reports):
        rows = np.flatnonzero(candidates.report == report)
        right[rows] = right[draws.permutation(rows)]
    return replace(candidates, right=right)


def _find(data: Path | None, source: str, size: str, seed: int) -> tuple[str, Candidates]:
    root = data_root(data)
    table = feature_table.find_table(root) if root is not None and source in ("auto", "original") else None
    if table is not None:
        name, candidates = feature_table.read_table(table, size)
        return f"features.csv/{name}", candidates
    looked_in = [root] if root is not None else []
    if source == "original":
        raise missing_data("the features of the original", feature_table.LAYOUT, feature_table.SOURCE, looked_in)
    history = git_project.find_repository(root) if root is not None and source in ("auto", "packaged") else None
    if history is None and source == "packaged":
        history = next((path for path in Path(__file__).resolve().parents if (path / ".git").exists()), None)
        if history is None:
            raise missing_data("a git history", HISTORY_LAYOUT, "any clone of a project", looked_in)
    project = generated_project.generate(size) if history is None else git_project.read_repository(history, size)
    return project.source, find_candidates(project, seed)
