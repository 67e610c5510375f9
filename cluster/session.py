"""Opens and closes Ray for one campaign: embedded on this machine, or a running cluster. It schedules nothing."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.address import chosen_address
from cluster.health import Health, watched
from cluster.job import beside_job_modules
from cluster.loopback import stay_on_loopback
from cluster.ray_node import ENERGY_SLOT, RayNode
from cluster.sweeper import swept
from profiler.errors import CampaignInterruptedError, CannotRunError
from profiler.interrupts import signals_held
from profiler.reach import Endpoint, answers

KNOCK_TIMEOUT_S = 10.0
ANSWER_S = 1.0
WORKER_KEPT_MS = 10 * 60 * 1000  # as in launch/node.sh; most waits between two pairs are shorter
EMBEDDED_OBJECT_STORE_BYTES = 100 * 1024 * 1024  # records and logs are small; the default takes 30 % of the memory


@dataclass(frozen=True)
class RaySession:
    """A connection to Ray. `embedded`: this process started it and ends it. `health`: whether Ray is still there."""

    embedded: bool
    address: str | None
    health: Health
    own_node_id: str
    endpoints: Mapping[str, Endpoint]

    def tether(self) -> Mapping[str, Endpoint]:
        """What a process on a node must reach to be of use to this driver. An embedded Ray is all on this machine,
        where processes are watched by themselves."""
        return {} if self.embedded else dict(self.endpoints)

    def answers(self) -> bool:
        """Whether Ray's gcs is there now. Ray's own question for the nodes would wait a minute for it, and hear no
        signal meanwhile."""
        return answers(self.endpoints["gcs"], ANSWER_S)

    def nodes(self) -> list[RayNode]:
        import ray

        return [
            RayNode(
                node["NodeID"],
                node["NodeManagerAddress"],
                node["NodeManagerHostname"],
                dict(node["Resources"]),
                node["NodeManagerPort"],
            )
            for node in ray.nodes()
            if node["Alive"]
        ]


class _SlowStartError(CannotRunError):
    """An embedded Ray was not there in the 30 s that it allows itself."""


@contextmanager
def open_ray(address: str | None, warn: Callable[[dict[str, Any]], None] | None = None) -> Iterator[RaySession]:
    """Connect to the cluster at `address`, or to that of $RAY_ADDRESS when it is None, as Ray's own programs do
    (`ray job submit` sets it); without either start Ray inside this process. `warn` is told, as an observer is, when
    that has to be done twice.

    Raises CannotRunError when Ray cannot be started or reached, and when this process is already connected; UsageError
    for an address that no campaign can use.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's workers are nice by default, and trainers would inherit it: they would train slower than without us.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Short of memory, Ray would kill the attempt; the kernel kills the trainer, which is the one that took it.
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
    # A campaign reserves all CPUs, and then Ray ends each worker that is idle for a second: every background would wait
    # for a new one.
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", str(WORKER_KEPT_MS))
    address = chosen_address(address)
    import ray

    if ray.is_initialized():
        raise CannotRunError("this process is already connected to Ray: call ray.shutdown() before profiler.run()")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with _ray_kept_quiet(), ExitStack() as stack:
        health, sweep = None, _nothing
        try:
            with signals_held():
                if address is None:
                    sweep = _start(stack, warn)
                else:
                    _connect(address)
            _restore(handlers)
            endpoints, own = _endpoints(), ray.get_runtime_context().get_node_id()
            with watched(endpoints) as health:
                yield RaySession(address is None, address, health, own, endpoints)
        except (KeyboardInterrupt, CampaignInterruptedError):
            if health is None or health.lost is None:
                raise
            raise CannotRunError(f"{health.lost}, so the campaign was ended") from None
        finally:
            if health is not None and health.lost is not None:
                sweep()  # what is left of Ray serves nobody, and its tasks would go on
            ray.shutdown()
            _restore(handlers)


@contextmanager
def _ray_kept_quiet() -> Iterator[None]:
    """Ray's driver prints in colour, on a terminal or not, what raylets report of workers and tasks that ended. Most of
    that we ended ourselves; what became of an attempt stands in its record, what became of a node is told."""
    from ray._private import worker

    worker._worker_logs_enabled = False  # as Ray's own debugger does; log_to_driver leaves these on
    try:
        yield
    finally:
        worker._worker_logs_enabled = True


def _nothing() -> None:
    """A running cluster is not ours to end."""


def _start(stack: ExitStack, warn: Callable[[dict[str, Any]], None] | None, again: bool = True) -> Callable[[], None]:
    """An embedded Ray, which ends with `stack`, or by the function returned. On a machine that is busy for a moment its
    start may take too long: then what there is of it is ended, and it is started once more."""
    import ray

    with ExitStack() as trial:
        sweep = trial.enter_context(swept(str(Path(ray.__file__).parent)))
        try:
            _connect(None)
        except _SlowStartError as error:
            if not again:
                raise
            if warn is not None:
                warn({"event": "warning", "message": f"{str(error).rstrip('.')}; it is started once more"})
        else:
            stack.enter_context(trial.pop_all())
            return sweep
    return _start(stack, warn, again=False)


def _endpoints() -> dict[str, Endpoint]:
    """The two parts of Ray that this driver cannot do without."""
    import ray

    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    own = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    return {"gcs": (host.strip("[]"), int(port)), "raylet": (own["NodeManagerAddress"], own["NodeManagerPort"])}


def _connect(address: str | None) -> None:
    import ray

    try:
        _knock(address)
        stay_on_loopback(address)
        ray.init(**_init_arguments(address))
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
        raise CannotRunError(_refusal(address, error)) from error
    except Exception as error:
        if type(error) is not Exception:  # what Ray raises when its own start takes too long
            raise
        kind = _SlowStartError if address is None else CannotRunError
        raise kind(_refusal(address, error)) from error


def _knock(address: str | None) -> None:
    """Ray itself tries for minutes, with a warning every few seconds. OSError when nothing listens at `address`."""
    host, separator, port = (address or "").rpartition(":")
    if separator and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_TIMEOUT_S).close()


def _init_arguments(address: str | None) -> dict[str, Any]:
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        return {
            **common,
            "address": "local",
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",  # loopback only: nobody else is meant to reach it
            "object_store_memory": EMBEDDED_OBJECT_STORE_BYTES,
            "resources": {ENERGY_SLOT: 1},
        }
    # The cluster's nodes get this very code; the user's own directory is never shipped.
    packages = Path(__file__).resolve().parent.parent
    modules = [
        str(packages / name) for name in ("profiler", "actors", "cluster", "repos") if (packages / name).is_dir()
    ]
    return {**common, "address": address, "runtime_env": {"py_modules": beside_job_modules(modules)}}


def _refusal(address: str | None, error: Exception) -> str:
    if address is None:
        return f"Ray could not be started here: {error}"
    return (
        f"no Ray cluster answers at {address!r}: {error}\n"
        "check `ray status` there; with token authentication set RAY_AUTH_MODE=token and the cluster's token here"
    )


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    """Ray installs its own signal handlers; the caller's stay in force."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)
