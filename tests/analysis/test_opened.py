"""The effects of a session, given as its folder, as the results folder that it lies in, or opened."""

from __future__ import annotations

from pathlib import Path

import profiler
from tests.report.sessions import make_session, pairs, solo


def test_a_session_may_be_given_in_any_way(tmp_path: Path) -> None:
    one, other = make_session(tmp_path, solo()), make_session(tmp_path, pairs())
    used = profiler.effects(one.root).used
    assert used > 0
    assert profiler.effects(str(one.root)).used == profiler.effects(profiler.open(one.root)).used == used
    both = used + profiler.effects(other.root).used
    assert profiler.effects(tmp_path).used == profiler.effects(profiler.open(tmp_path)).used == both > used
