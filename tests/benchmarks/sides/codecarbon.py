"""CodeCarbon: `OfflineEmissionsTracker`, which measures at the rate."""

from __future__ import annotations

from codecarbon import OfflineEmissionsTracker

from tests.benchmarks.sides.common import serve


def main() -> None:
    trackers: list[OfflineEmissionsTracker] = []

    def begin(rate_hz: float, gpus: int) -> None:
        trackers.append(
            OfflineEmissionsTracker(
                country_iso_code="DEU",
                measure_power_secs=1 / rate_hz,
                gpu_ids=list(range(gpus)),
                save_to_file=False,
                log_level="error",
                allow_multiple_runs=True,
            )
        )
        trackers[-1].start()

    def end() -> None:
        trackers.pop().stop()

    serve(begin, end)


if __name__ == "__main__":
    main()
