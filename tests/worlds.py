"""Programs in a world of their own: with less of this machine, and with fewer rights."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.campaigns import environment

WITHOUT_NAMESPACES = "exec setpriv --bounding-set -all,+dac_override --inh-caps -all"
"""Root who may make no namespace, but may write files: what is left is a cgroup."""


def in_a_world(prepared: str, *argv: object, **extra: str) -> subprocess.Popen[str]:
    """A program in a mount namespace of its own; the last of the shell's words in `prepared` is what executes it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can make such a world")
    world = ["unshare", "-m", "--propagation", "private", "sh", "-c", f'{prepared} "$@"', "sh"]
    return subprocess.Popen([*world, *map(str, argv)], env=environment(**extra), stdout=subprocess.PIPE, text=True)
