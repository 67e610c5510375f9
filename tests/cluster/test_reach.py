"""Far ends that answer, refuse, and are silent, told apart on real sockets and a clock that the test moves."""

from __future__ import annotations

import socket

from profiler.reach import Patience, Reach

PATIENCE = Patience(refused_s=3.0, silent_s=30.0, knock_s=0.05)


def test_a_port_is_gone_only_after_its_time() -> None:
    now_s = [0.0]
    server = socket.create_server(("127.0.0.1", 0))
    reach = Reach({"gcs": server.getsockname()}, PATIENCE, lambda: now_s[0])
    now_s[0] = 100.0
    assert reach.look() is None  # it answers, however long ago the last look was
    server.close()
    now_s[0] = 102.9
    assert reach.look() is None
    now_s[0] = 103.1
    assert "gcs at 127.0.0.1" in str(reach.look())


def test_silence_is_borne_longer_than_a_refusal() -> None:
    now_s = [0.0]
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        full = []
        for _ in range(4):  # nobody accepts: the kernel drops the next knock, as a cut network does
            knock = socket.socket()
            knock.setblocking(False)
            knock.connect_ex(server.getsockname())
            full.append(knock)
        reach = Reach({"raylet": server.getsockname()}, PATIENCE, lambda: now_s[0])
        now_s[0] = 29.9
        assert reach.look() is None
        now_s[0] = 30.1
        assert "raylet" in str(reach.look())
        for knock in full:
            knock.close()
