"""Sets the trainings of the larger repositories apart: `make models` runs them, `make test` does not."""

from __future__ import annotations

import pytest

LARGER = ("bug_localization", "mrt_oast", "resnet_cifar10", "vulberta")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("train") and any(name in item.path.name for name in LARGER):
            item.add_marker(pytest.mark.models)
