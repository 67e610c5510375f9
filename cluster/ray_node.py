"""What Ray tells of one machine of the cluster. Pure: it asks nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from profiler.reach import Endpoint

ENERGY_SLOT: Final = "energy_slot"


@dataclass(frozen=True)
class RayNode:
    """One alive node: its Ray id, address, and total resources (Ray's names: CPU, GPU, a cluster's own)."""

    node_id: str
    address: str
    hostname: str
    resources: Mapping[str, float]
    raylet_port: int

    @property
    def gpus(self) -> int:
        return int(self.resources.get("GPU", 0))

    @property
    def cpus(self) -> int:
        return int(self.resources.get("CPU", 0))

    @property
    def has_energy_slot(self) -> bool:
        """Whether only one campaign works there at a time."""
        return ENERGY_SLOT in self.resources

    @property
    def raylet(self) -> Endpoint:
        return self.address, self.raylet_port
