"""The keeper's two halves: takes the spec, makes the namespace, forks; the waiting half waits, the guard serves."""

import marshal
import os
import resource

from .guard import Guard, Spec
from .system import REPORT_FD, reset_signals, say
from .tiers import TIERS, PidNamespace, Subreaper


def prepare_process() -> Spec:
    """Takes the spec from descriptor 0 and makes this process a plain one: signals, descriptors, no core files."""
    with open(0, "rb") as file:
        spec = Spec(marshal.load(file))
    null = os.open("/dev/null", os.O_RDWR)  # becomes descriptor 0
    os.dup2(null, 1)
    os.set_inheritable(0, True)
    for fd in spec.descriptors():
        os.set_inheritable(fd, False)
    reset_signals()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    return spec


def guard(spec: Spec, tier: PidNamespace | Subreaper, waiting_half: int) -> None:
    outer_pid = int(os.readlink("/proc/self"))  # as the owner sees it: this is still the outer /proc
    os.setsid()
    try:
        tier.settle()
    except OSError as error:
        say("unavailable", error=str(error))
        return
    Guard(spec, tier, waiting_half, outer_pid).serve()


def wait_for(child: int, spec: Spec, tier: PidNamespace | Subreaper) -> None:
    """The waiting half: holds no pipe, so that the owner's end of file means what it says."""
    for fd in spec.descriptors():
        os.close(fd)
    os.dup2(0, REPORT_FD)
    while os.waitpid(-1, 0)[0] != child:
        pass
    tier.clean()


def main() -> None:
    spec = prepare_process()
    tier = TIERS[spec.tier]()
    try:
        tier.isolate()
        waiting_half = os.pidfd_open(os.getpid())
        child = os.fork()
    except OSError as error:
        say("unavailable", error=str(error))
        return
    if child == 0:
        guard(spec, tier, waiting_half)
    else:
        wait_for(child, spec, tier)
