"""The campaign in Prometheus' words: power of each device, lateness of the samplers, runs by state, quarantines.

An observer like any other, on top of `ray.util.metrics`; Ray's agents on the nodes show the figures, where they are
installed (the extra `cluster`). It measures nothing and keeps nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Gauge

STATES = ("pending", "active", "valid", "contaminated", "failed")


class Gauges:
    """Takes the driver's events; Ray must be connected."""

    def __init__(self, session_id: str) -> None:
        self._session = {"session": session_id}
        self._states: Counter[str] = Counter()
        self._active: set[str] = set()
        self._power = Gauge("profiler_power_watts", "Newest power of a device, W.", ("session", "node", "device"))
        self._lateness = Gauge(
            "profiler_sampler_lateness_seconds",
            "How late the latest of a node's newest samples was, s.",
            ("session", "node"),
        )
        self._runs = Gauge("profiler_runs", "Runs of the campaign by state.", ("session", "state"))
        self._quarantines = Gauge(
            "profiler_quarantines", "GPUs and nodes that the campaign does without.", ("session",)
        )
        self._quarantined = 0

    def __call__(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "power":
                for node, device, power_w in event["devices"]:
                    self._power.set(power_w, {**self._session, "node": node, "device": device})
                for node, lateness_s in event["lateness_s"].items():
                    self._lateness.set(lateness_s, {**self._session, "node": node})
                self._show()
            case "planned":
                self._states["pending"] = event["runs"]
                self._show()
            case "step":
                if event["run_id"] not in self._active and event["step"] == "waiting":
                    self._active.add(event["run_id"])
                    self._move("pending", "active")
            case "attempt":
                self._active.discard(event["row"]["run_id"])
                self._move("active", event["row"]["verdict"] if event["row"]["is_final"] else "pending")
            case "quarantine":
                self._active.discard(event["run_id"])
                self._quarantined += 1
                self._move("active", "pending")

    def _move(self, source: str, target: str) -> None:
        self._states[source] -= 1
        self._states[target] += 1
        self._show()

    def _show(self) -> None:
        """Again and again: a figure that is set once is not shown for ever."""
        self._quarantines.set(self._quarantined, self._session)
        for state in STATES:
            self._runs.set(self._states[state], {**self._session, "state": state})
