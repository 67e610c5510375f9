"""Keeps a Ray that is for this machine alone on loopback. It opens no connection that stays."""

from __future__ import annotations

import socket

LOOPBACK = ("localhost", "127.0.0.1", "::1")
CONNECT_TIMEOUT_S = 2.0


def stay_on_loopback(address: str | None) -> None:
    """Before `ray.init`: from now on Ray in this process takes 127.0.0.1 for what it says, if the Ray at `address`
    (None: one that is started here) is for this machine alone.

    Ray otherwise replaces it by the machine's address on the network, and then listens on every interface. The switch
    is Ray's own, for systems where clusters are not supported.
    """
    from ray._private import ray_constants, services

    ray_constants.ENABLE_RAY_CLUSTER = True
    own = services.get_node_ip_address()
    ray_constants.ENABLE_RAY_CLUSTER = address is not None and not _only_on_loopback(address, own)


def _only_on_loopback(address: str, own: str) -> bool:
    """Whether what listens at `address` cannot be reached at `own`, this machine's address on the network."""
    host, _, port = address.rpartition(":")
    if host.strip("[]") not in LOOPBACK or not port.isdigit():
        return False
    try:
        socket.create_connection((own, int(port)), CONNECT_TIMEOUT_S).close()
    except OSError:
        return True
    return False
