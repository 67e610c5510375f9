"""Which Ray a campaign means: the address that was given, that of $RAY_ADDRESS, or none. It connects to nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping

from profiler.errors import UsageError

VARIABLE = "RAY_ADDRESS"
_INSTEAD = (
    "on a machine of the cluster give the head's HOST:PORT (that of `ray start`, 6379 by default); from elsewhere: "
    "ray job submit --address http://127.0.0.1:8265 -- profiler run CONFIG --results /ABSOLUTE/FOLDER"
)


def chosen_address(given: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """`given`, or what $RAY_ADDRESS says as for Ray's own programs (`ray job submit` sets it); None: no running Ray.

    Raises UsageError for a URL: Ray Client (ray://) lacks streaming tasks, by which runs tell their progress and send
    their files, and http:// is where jobs are submitted."""
    address = given or environment.get(VARIABLE) or None
    if address is None or "://" not in address:
        return address
    source = "--address" if given else f"${VARIABLE}"
    scheme = address.partition("://")[0]
    why = "Ray Client has no streaming tasks, which a campaign needs" if scheme == "ray" else "that is no Ray node"
    raise UsageError(f"{source} {address}: {why}\n{_INSTEAD}")
