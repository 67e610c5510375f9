"""Nodes of this machine, started by cluster/launch/node.sh as a user would, with a token of their own."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socket import create_server

import psutil

NODE = Path(__file__).parents[2] / "cluster" / "launch" / "node.sh"
RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    """A port that nobody listens on. It is none of those that the kernel gives away (from 32768 on), nor Ray to its
    workers (up to 19999): until it is bound nobody else comes to it by chance."""
    while True:
        try:
            with create_server(("127.0.0.1", 20_000 + secrets.randbelow(12_000))) as probe:
                return int(probe.getsockname()[1])
        except OSError:  # taken
            continue


def environment(home: Path, **more: str) -> dict[str, str]:
    """Somebody who has a token of his own."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    token = home / ".ray" / "auth_token"
    if not token.exists():
        token.parent.mkdir(parents=True)
        token.write_text("0123456789abcdef" * 4)
    return {**plain, "HOME": str(home), "RAY": str(RAY), **more}


@contextmanager
def node(
    *arguments: object, env: Mapping[str, str], log: Path, in_background: bool = False
) -> Iterator[psutil.Process]:
    """node.sh until the block ends; then it gets a TERM and must end, with everything of it. `in_background`: as a
    script starts it there, with Ctrl-C ignored."""
    words = [*(["sh", "-c", 'trap "" INT; exec "$0" "$@"'] if in_background else []), str(NODE), *map(str, arguments)]
    with log.open("wb") as out:
        started = subprocess.Popen(words, env=dict(env), stdout=out, stderr=out, start_new_session=True)
    process = psutil.Process(started.pid)
    family = [process]
    try:
        until = time.monotonic() + 120
        while "will now block forever" not in log.read_text():
            assert started.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        family += process.children(recursive=True)
        yield process
    finally:
        family += process.children(recursive=True) if started.poll() is None else []
        started.send_signal(signal.SIGTERM)
        started.wait(60)
        _, left = psutil.wait_procs(family, timeout=20)
        for survivor in left:
            survivor.kill()
    assert not left
