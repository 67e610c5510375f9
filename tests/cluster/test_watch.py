"""A node that does not answer is told of, one that does is not."""

from __future__ import annotations

import socket

import pytest

from cluster import watch
from profiler.reach import Patience
from tests.process.harness import wait_until


def test_only_the_node_that_is_gone_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "INTERVAL_S", 0.01)
    monkeypatch.setattr(watch, "PATIENCE", Patience(refused_s=0.1, silent_s=0.1, knock_s=0.5))
    # Nobody accepts: with the usual backlog it would be silent after the 128th knock, in little more than a second.
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as there:
        gone = socket.create_server(("127.0.0.1", 0))
        nodes = watch.NodeWatch()
        nodes.add("a", there.getsockname())
        nodes.add("b", gone.getsockname())
        gone.close()
        wait_until(nodes.gone)
        assert nodes.gone() == {"b"}
        nodes.remove("b")
        assert nodes.gone() == set()
        nodes.stop()
