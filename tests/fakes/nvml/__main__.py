"""Command line of the virtual NVML: `python -m tests.fakes.nvml STATE --gpus 2 --watts 300` writes a state file.

Prints the two lines to `eval` in a shell, so that any program started from it sees the GPUs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.fakes.nvml import FakeNvml, Segment, build, default_cache


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.nvml", description=__doc__)
    parser.add_argument("state", type=Path, help="the state file to write")
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--watts", type=float, default=300.0, help="constant power of each GPU")
    parser.add_argument("--bursts", metavar="LOW_W,PERIOD_S", help="half of each period at --watts, half at LOW_W")
    parser.add_argument("--temp-c", type=int, default=35)
    parser.add_argument("--util-percent", type=int, default=0)
    parser.add_argument("--memory-total-mib", type=float, default=81_079.0)
    parser.add_argument("--process", action="append", default=[], metavar="PID:MIB[:GPU]", help="a process on a GPU")
    parser.add_argument("--reap", action="store_true", help="processes whose PID does not exist are not shown")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder for the compiled library")
    return parser.parse_args()


def main() -> None:
    options = parse()
    fake = FakeNvml(options.state.resolve(), build(options.cache.resolve()), options.gpus, options.watts)
    for index in range(options.gpus):
        if options.bursts:
            low_w, period_s = (float(part) for part in options.bursts.split(","))
            parts = [Segment(period_s / 2, options.watts), Segment(period_s / 2, low_w)]
            fake.play(parts, repeat=True, gpu=index)
        fake.set(
            index,
            temp_c=options.temp_c,
            util_percent=options.util_percent,
            memory_total_mib=options.memory_total_mib,
            reap_dead_processes=int(options.reap),
        )
    for text in options.process:
        pid, memory_mib, *gpu = text.split(":")
        fake.add_process(int(pid), float(memory_mib), gpu=int(gpu[0]) if gpu else 0)
    for name, value in fake.env.items():
        print(f"export {name}={value}")


if __name__ == "__main__":
    main()
