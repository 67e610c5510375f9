"""Keeps the trace's rows in memory: numbered, bounded, longer where someone holds a window. It reads no device.

Rows live in chunks, so that a reader copies a few references under the lock and the sampler never waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from profiler.energy.sample import Sample

KEEP_S: Final = 600.0
CHUNK_ROWS: Final = 512
# About 250 MB. Beyond it held rows are thinned, oldest first: counters bridge the gaps, so energy stays exact. Half of
# it is for rows in full: 1.4 h of a node with 6 devices at 10 Hz. The thinned half reaches back 14 h more.
MAX_ROWS: Final = 600_000
THIN_TO_EVERY: Final = 10


@dataclass
class _Chunk:
    """Rows in order of their numbers; `first` is the number of the first one when it was full."""

    first: int
    rows: list[Sample] = field(default_factory=list)
    newest_ns: int = 0
    thinned: bool = False


class Retention:
    """Rows of the last `keep_s` seconds, and all rows since the oldest hold. Safe to use from several threads."""

    def __init__(self, keep_s: float = KEEP_S, max_rows: int = MAX_ROWS) -> None:
        self._keep_ns = int(keep_s * 1e9)
        self._max_rows = max_rows
        self._lock = threading.Lock()
        self._chunks: list[_Chunk] = [_Chunk(0)]
        self._next_seq = 0
        self._row_count = 0
        self._holds: dict[int, int] = {}
        self._next_token = 1

    def extend(self, rows: Sequence[Sample]) -> None:
        begin = 0
        while begin < len(rows):
            with self._lock:
                chunk = self._chunks[-1]
                fitting = rows[begin : begin + CHUNK_ROWS - len(chunk.rows)]
                begin += len(fitting)
                chunk.rows.extend(fitting)
                chunk.newest_ns = max(chunk.newest_ns, *(row.t_mono_ns for row in fitting))
                self._next_seq += len(fitting)
                self._row_count += len(fitting)
                if len(chunk.rows) >= CHUNK_ROWS:
                    self._prune(fitting[-1].t_mono_ns)
                    self._chunks.append(_Chunk(self._next_seq))

    def hold(self, t0_ns: int) -> int:
        """Keep every row from `t0_ns` on until `release` of the returned token."""
        with self._lock:
            token = self._next_token
            self._next_token += 1
            self._holds[token] = t0_ns
            return token

    def release(self, token: int) -> None:
        """Ends a hold; an unknown or already released token is ignored."""
        with self._lock:
            self._holds.pop(token, None)

    @property
    def holds(self) -> int:
        return len(self._holds)

    def rows(self, since_seq: int) -> tuple[list[Sample], int]:
        """Rows numbered `since_seq` and up that are still kept, and the number to ask for next time."""
        with self._lock:
            next_seq = self._next_seq
            chunks = [c for c in self._chunks if c.first + len(c.rows) > since_seq or c.thinned]
            copies = [(c, list(c.rows)) if c is self._chunks[-1] else (c, c.rows) for c in chunks]
        found: list[Sample] = []
        for chunk, rows in copies:
            # A thinned chunk has lost its numbering; it is far older than any reader that keeps up.
            if not chunk.thinned:
                found.extend(rows[max(0, since_seq - chunk.first) :])
        return found, next_seq

    def window(self, t0_ns: int, t1_ns: int) -> list[Sample]:
        """Kept rows read (or due) in [t0_ns, t1_ns], in order of time."""
        found = [row for rows in self._snapshot(t0_ns) for row in rows if t0_ns <= row.t_mono_ns <= t1_ns]
        return sorted(found, key=lambda row: row.t_mono_ns)

    def _snapshot(self, t0_ns: int) -> Iterator[list[Sample]]:
        with self._lock:
            last = list(self._chunks[-1].rows)
            full = [chunk.rows for chunk in self._chunks[:-1] if chunk.newest_ns >= t0_ns]
        yield from full
        yield last

    def _prune(self, now_ns: int) -> None:
        """Called with the lock held, once a chunk."""
        keep_from = min([now_ns - self._keep_ns, *self._holds.values()])
        kept = [chunk for chunk in self._chunks if chunk.newest_ns >= keep_from]
        self._row_count -= sum(len(chunk.rows) for chunk in self._chunks) - sum(len(chunk.rows) for chunk in kept)
        self._chunks = kept
        while self._row_count > self._max_rows:
            self._shrink()

    def _shrink(self) -> None:
        """Thins the oldest whole chunk to one tick in ten; drops the oldest one when the thinned half is full."""
        whole = [chunk for chunk in self._chunks if not chunk.thinned]
        if sum(len(chunk.rows) for chunk in whole) <= self._max_rows // 2:
            self._row_count -= len(self._chunks.pop(0).rows)
            return
        oldest = whole[0]
        rows = [row for row in oldest.rows if row.missed or row.tick % THIN_TO_EVERY == 0]
        self._row_count -= len(oldest.rows) - len(rows)
        # The list itself may be in a reader's hands: it gets a new one.
        oldest.rows, oldest.thinned = rows, True
