"""The analyses of a session in one call: reads its rows and the manifests, and hands both to the analysis."""

from __future__ import annotations

from pathlib import Path

from profiler.analysis.effects import effects
from profiler.analysis.results import Effects
from profiler.store.read import Session, open_session
from profiler.workloads import load_catalog


def effects_of(session: Session | str | Path, *, safe_only: bool = True) -> Effects:
    """What each hyperparameter does to energy, duration and metric in a session, an opened one or its folder.

    `safe_only`: contaminated runs stay out; failed ones always do. SessionError where there is no session, ConfigError
    where a manifest is bad, CannotRunError where the extra `report` is not installed."""
    opened = open_session(session) if isinstance(session, str | Path) else session
    return effects(opened.rows(), load_catalog(), safe_only=safe_only)
