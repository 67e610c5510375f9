"""What a report says is what the session says: totals, comparisons, pairs, front, verdicts, traces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import profiler
from profiler.errors import SessionError
from profiler.report.document import Document, make_document
from profiler.report.groups import ENERGIES
from profiler.report.traces import chosen_rows, envelope
from profiler.store.read import Session
from tests.report import sessions
from tests.report.sessions import Run


@pytest.fixture(scope="module")
def contaminated(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return profiler.open(sessions.make_session(tmp_path_factory.mktemp("c"), sessions.contaminated()).root)


@pytest.fixture(scope="module")
def document(contaminated: Session) -> Document:
    return make_document(contaminated)


def test_totals_are_those_of_the_session(contaminated: Session, document: Document) -> None:
    rows = contaminated.rows()
    counts = contaminated.counts()
    assert document.planned == counts["planned"] == len(rows)
    assert (document.states["safe"], document.valid) == (counts["safe"], counts["valid"])
    assert document.states["unfinished"] + document.states["not run"] == counts["not_final"]
    safe, valid, ended, attempts = document.totals
    for place, (column, _) in enumerate(ENERGIES):

        def known(chosen: list[dict[str, object]], column: str = column) -> list[float]:
            return [float(str(row[column])) for row in chosen if row[column] is not None]

        assert safe.energies[place].sum_j == pytest.approx(sum(known([r for r in rows if r["safe"]])))
        assert valid.energies[place].sum_j == pytest.approx(sum(known([r for r in rows if r["valid"]])))
        assert ended.energies[place].sum_j == pytest.approx(sum(known(rows)))
        assert attempts.energies[place].sum_j == pytest.approx(sum(known(contaminated.attempts())))
    assert sum(group.planned for group in document.groups) == document.planned


def test_contaminated_runs_are_compared_with_safe_ones(document: Document) -> None:
    group = next(g for g in document.groups if (g.model, g.mode) == ("mnist_cnn", "mutation"))
    power = group.compared("mean GPU power")
    assert power.safe is not None and power.valid is not None
    assert (power.safe.count, power.valid.count) == (3, 5)
    assert power.safe.mean == pytest.approx((280 + 285 + 300) / 3)
    assert power.difference_percent == pytest.approx(100 * (339 / power.safe.mean - 1), abs=0.01)


def test_every_attempt_and_planned_run_is_listed_once_with_its_evidence(
    contaminated: Session, document: Document
) -> None:
    listed = [entry for entries in document.verdicts.entries.values() for entry in entries]
    not_run = sum(entry.attempt is None for entry in listed)
    assert not_run == document.states["not run"] == 2
    assert len(listed) - not_run == len(contaminated.attempts()) == document.attempts
    assert len(document.verdicts.entries["retried"]) == 2
    squatted = document.verdicts.entries["contaminated"][0]
    assert squatted.reasons[0][:2] == ("foreign_gpu_process", "unsafe")
    assert "5540 MiB" in squatted.reasons[0][2]
    counts = {entry.name: entry.attempts for entry in document.verdicts.counts}
    assert counts == {
        "interrupted": 1, "exit": 3, "oom": 1, "foreign_gpu_process": 2, "throttled": 1, "no_energy_source": 1
    }  # fmt: skip


def test_pairs_are_compared_with_the_same_values_alone(tmp_path: Path) -> None:
    folder = sessions.make_session(tmp_path, sessions.pairs(), traces=False)
    known, unknown = make_document(profiler.open(folder.root)).pairs
    assert (known.foreground, known.background) == ("examples / mnist_cnn", "examples / mnist_rnn")
    assert (known.runs, known.safe, known.matched) == (2, 2, 2)
    assert known.slowdown is not None and known.gpu_ratio is not None and known.busy_share is not None
    assert known.slowdown.mean == pytest.approx((31.5 + 33.6) / 2 / 21)
    assert known.gpu_ratio.mean == pytest.approx((31.5 * 320 + 33.6 * 322) / 2 / (250 * 21))
    assert known.busy_share.mean == pytest.approx(0.97)
    assert unknown.matched == 0 and unknown.slowdown is None


def test_the_front_has_the_runs_that_no_safe_run_beats(tmp_path: Path) -> None:
    figures = [
        (10.0, 0.80, {}),
        (20.0, 0.90, {}),
        (30.0, 0.85, {}),
        (15.0, 0.95, {"throttled": "6 s"}),
        (10.0, 0.7, {}),
    ]
    runs = [Run(seconds=s, gpu_w=100.0, cpu_w=None, metric=m, findings=found) for s, m, found in figures]
    folder = sessions.make_session(tmp_path, runs, traces=False)
    (tradeoff,) = make_document(profiler.open(folder.root)).tradeoffs
    assert (tradeoff.energy, tradeoff.metric, tradeoff.direction) == ("GPU energy", "test_accuracy", "maximize")
    assert [(point.energy_j, point.metric) for point in tradeoff.front] == [(1000.0, 0.80), (2000.0, 0.90)]
    assert len(tradeoff.points) == 5


def test_a_trace_has_power_boundaries_background_steps_and_events(tmp_path: Path) -> None:
    beside = ("examples", "mnist_rnn")
    folder = sessions.make_session(tmp_path, [Run(mode="parallel", background=beside, gpu_w=200.0, cpu_w=60.0)])
    (trace,) = make_document(profiler.open(folder.root)).traces
    assert trace.missing is None and trace.duration_s == 20.0
    assert trace.boundaries_s == pytest.approx((-0.003, 20.003))
    series = {entry.scope: entry for entry in trace.series}
    assert set(series) == {"gpu", "cpu_package", "dram"}
    inside = [piece for piece in series["gpu"].pieces if 0 <= piece.t_s <= 20]
    assert min(p.low_w for p in inside) == pytest.approx(180.0)
    assert max(p.high_w for p in inside) == pytest.approx(220.0)
    packages = [piece.mean_w for piece in series["cpu_package"].pieces if 0 < piece.t_s < 20]
    assert sum(packages) / len(packages) == pytest.approx(60.0, rel=0.02)  # both packages together
    assert [(mark.kind, round(mark.t_s, 1)) for mark in trace.marks] == [
        ("ready", 2.0), ("epoch", 10.0), ("epoch", 18.0), ("done", 19.0)
    ]  # fmt: skip
    background = next(stretch for stretch in trace.stretches if stretch.kind == "background")
    assert (background.start_s, background.end_s) == (-4.0, 21.0)
    assert [s.text for s in trace.stretches if s.kind == "step"] == ["gate", "background", "training", "cooling"]


def test_a_run_without_power_says_why(document: Document) -> None:
    blind = next(trace for trace in document.traces if trace.row["gpu_uuid"] is None)
    assert blind.series == () and blind.missing is not None
    assert "no_gpu" in blind.missing and "no_rapl_zones" in blind.missing


def test_an_envelope_keeps_peaks_and_holes() -> None:
    t_s = np.concatenate([np.arange(0, 500, 0.1), np.arange(520, 1000, 0.1)])
    power_w = np.full(len(t_s), 100.0)
    power_w[1234], power_w[7000] = 900.0, 5.0
    pieces = envelope(t_s, power_w)
    assert len(pieces) <= 240
    assert (max(p.high_w for p in pieces), min(p.low_w for p in pieces)) == (900.0, 5.0)
    assert [p.follows for p in pieces].count(False) == 1
    broken = next(p for p in pieces if not p.follows)
    assert broken.t_s > 519
    assert envelope(np.array([]), np.array([])) == ()


def test_of_many_runs_every_kind_has_its_turn_and_wanted_ones_are_there(contaminated: Session) -> None:
    rows = contaminated.rows()
    chosen = chosen_rows(rows, [rows[10]["experiment_id"]], limit=6)
    assert len(chosen) == 6
    assert rows[10] in chosen
    assert {"failed", "contaminated"} <= {row["verdict"] for row in chosen}
    assert [row["index"] for row in chosen] == sorted(row["index"] for row in chosen)
    assert len(chosen_rows(rows, [], limit=60)) == 13


def test_an_unknown_run_is_refused_by_name(contaminated: Session) -> None:
    with pytest.raises(SessionError, match="no run 'nobody'"):
        make_document(contaminated, ["nobody"])


def test_nulls_have_their_reasons_and_sources_stand_once(document: Document) -> None:
    measured = document.measured
    assert [(source.column, source.runs) for source in measured.sources] == [
        ("cpu_package_energy_j", 12), ("dram_energy_j", 12), ("gpu_energy_j", 12)
    ]  # fmt: skip
    missing = {entry.column: entry for entry in measured.missing}
    assert missing["gpu_energy_j"].reasons == (("no_gpu", 1),)
    assert (missing["gpu_energy_j"].null, missing["gpu_energy_j"].of) == (1, 13)
