"""This project: a window of a meter, whose sampler runs at the rate."""

from __future__ import annotations

from contextlib import ExitStack

from profiler.energy.meter import Meter
from tests.benchmarks.sides.common import serve


def main() -> None:
    open_now = ExitStack()

    def begin(rate_hz: float, gpus: int) -> None:
        meter = open_now.enter_context(Meter(rate_hz=rate_hz))
        open_now.enter_context(meter.window(gpu_uuids=meter.gpu_uuids[:gpus]))

    serve(begin, open_now.close)


if __name__ == "__main__":
    main()
