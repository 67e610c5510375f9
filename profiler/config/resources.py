"""The kind of value of the key `resources`: a cluster's own Ray resources, not those that have a key or a use here."""

from __future__ import annotations

from typing import Any

from profiler.config.faults import Faults
from profiler.config.kinds import WRONG, MapOf, Number

_TAKEN = {
    "CPU": "say `cpus` instead, the number of CPUs of a training",
    "GPU": "say `gpus` instead, the number of GPUs of a run",
    "memory": "leave it out, main memory is not reserved; what a run needs of the GPU's is `memory_limit_mib`",
    "object_store_memory": "leave it out, no run needs any",
    "energy_slot": "leave it out, every run takes it by itself; see `isolation`",
}


class Resources(MapOf):
    """A mapping from Ray resources that somebody gave to nodes to numbers."""

    def __init__(self) -> None:
        super().__init__("mapping resource -> number", Number(low=0))

    def read(self, value: Any, path: str, faults: Faults) -> Any:
        amounts = super().read(value, path, faults)
        if amounts is not WRONG:
            for name in filter(_TAKEN.get, amounts):
                faults.add(f"{path}.{name}", value[name], f"{name} is no extra resource: {_TAKEN[name]}")
        return amounts
