"""The analyses of a session in one call: reads its rows and the manifests, and hands both to the analysis."""

from __future__ import annotations

import os

from profiler.analysis.effects import effects
from profiler.analysis.results import Effects
from profiler.store.collection import Sessions, open_results
from profiler.store.read import Session
from profiler.workloads import load_catalog


def effects_of(session: Session | Sessions | str | os.PathLike[str], *, safe_only: bool = True) -> Effects:
    """What each hyperparameter does to energy, duration and metric in a session or a results folder, an opened one or
    its path.

    `safe_only`: contaminated runs stay out; failed ones always do. SessionError where there is no session, ConfigError
    where a manifest is bad, CannotRunError where the extra `report` is not installed, UsageError where `session` is
    nothing of these."""
    opened = session if isinstance(session, Session | Sessions) else open_results(session)
    return effects(opened.rows(), load_catalog(), safe_only=safe_only)
