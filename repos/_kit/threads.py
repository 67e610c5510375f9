"""Decides the number of CPU threads; before numpy or torch is imported, because they read it once.

It imports neither. OMP_NUM_THREADS is the scheduler's CPU grant; without it every CPU this process may use counts.
"""

import os

FOLLOWERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def granted_threads() -> int:
    """The first number in OMP_NUM_THREADS, else the CPUs this process may run on."""
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if text.isdigit() and int(text) > 0:
        return int(text)
    return len(os.sched_getaffinity(0))


def fix_threads() -> int:
    """Tell every numeric library the same fixed number of threads and return it.

    A number that varies with the load would change the order of sums, and with it the last bits of a result.
    """
    count = granted_threads()
    for name in FOLLOWERS:
        os.environ[name] = str(count)
    os.environ["OMP_DYNAMIC"] = "FALSE"
    os.environ["MKL_DYNAMIC"] = "FALSE"
    return count
