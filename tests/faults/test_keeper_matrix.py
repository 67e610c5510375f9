"""A quick part of the matrix: some random cells, no survivors. The whole: python -m tests.faults.keeper_matrix"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.keeper_matrix import options_from, run, table
from tests.process.conftest import place
from tests.process.harness import Place

__all__ = ["place"]

ROUNDS = 8


@pytest.mark.fault
def test_some_cells_leave_nothing(place: Place, tmp_path: Path) -> None:
    seed = time.time_ns() % 10**6
    results = run({place.uid: place}, options_from(["--seed", str(seed), "--limit", str(ROUNDS)]))
    print(f"seed {seed}\n{table(results)}")
    assert sum(result.kills for result in results.values()) == ROUNDS
    assert sum(result.survivors for result in results.values()) == 0
