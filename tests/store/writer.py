"""Writes a session as a campaign does, until it is killed: `python -m tests.store.writer RESULTS RUNS`.

Traces at 10 Hz of two devices go out in batches, attempts are recorded; each line on stdout says what is on disk.
Time runs `SPEED` times as fast as on the wall: a batch holds 4 s, like the collector's.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from profiler.store.ledger import Ledger
from profiler.store.write import Recorder, write_processes, write_samples
from tests.store.build import T0_NS, attempt_row, sample, session_folder

SPEED = 100
BATCH_S = 4.0
RATE_HZ = 10


def main(results: str, runs: str) -> None:
    folder = session_folder(Path(results), int(runs))
    recorder = Recorder(folder, Ledger(folder.ledger))
    print(folder.root, flush=True)
    for number in range(1, int(runs) + 1):
        due_s = time.monotonic() + BATCH_S / SPEED
        start_ns = T0_NS + round((number - 1) * BATCH_S * 1e9)
        times = [start_ns + round(1e9 / RATE_HZ) * n for n in range(round(BATCH_S * RATE_HZ))]
        write_samples(
            folder, "node-a", [sample(t, n, device=d) for n, t in enumerate(times) for d in ("GPU-1", "node")]
        )
        print("samples", times[-1], flush=True)
        run_id = folder.run_id(number)
        write_processes(folder, f"{run_id}-1", [{"node_id": "node-a", "boot_id": "b", "gpu_uuid": "GPU-1", "pid": 1}])
        recorder.record(attempt_row(folder, number))
        print("run", run_id, flush=True)
        time.sleep(max(0.0, due_s - time.monotonic()))


if __name__ == "__main__":
    main(*sys.argv[1:])
