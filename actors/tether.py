"""Ends a worker process on a node once its campaign's driver cannot be reached any more. It ends no trainer itself: the
keepers of this process do, the moment it is gone.

Ray lets workers go on for a minute and longer when the head of the cluster is gone or the network is cut. By then the
driver has given the attempt up, and it may run a second time elsewhere.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping

from profiler.reach import Endpoint, Patience, Reach

INTERVAL_S = 1.0
PATIENCE = Patience(refused_s=4.0, silent_s=8.0)
GONE = 75  # exit code of a worker that was left alone

_tied: set[tuple[str, Endpoint]] = set()


def tie(endpoints: Mapping[str, Endpoint]) -> None:
    """From now on this process ends when one of `endpoints` (the gcs, the raylet of the driver) is gone for good.

    A worker may serve several attempts of one driver: there is one thread for all of them."""
    if not endpoints or set(endpoints.items()) <= _tied:
        return
    _tied.update(endpoints.items())
    threading.Thread(target=_watch, args=(Reach(endpoints, PATIENCE),), daemon=True, name="tether").start()


def _watch(reach: Reach) -> None:
    stopped = threading.Event()
    while not stopped.wait(INTERVAL_S):
        lost = reach.look()
        if lost is not None:
            print(f"profiler: {lost}: this worker ends, and its runs with it", file=sys.stderr, flush=True)
            os._exit(GONE)
