"""What trainers get of the driver's environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler.trainer import driver_environment


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_worker_niceness", "CUDA_MPS_PIPE_DIRECTORY"])
def test_variables_of_ray_and_of_the_users_own_mps_stay_behind(name: str) -> None:
    assert driver_environment({name: "x", "HOME": "/h", "XRAY_": "y"}) == {"HOME": "/h", "XRAY_": "y"}


def test_a_breakpoint_is_the_users_never_that_of_ray() -> None:
    """``ray.init`` sets the variable in the driver's process."""
    assert driver_environment({"PYTHONBREAKPOINT": "ray.util.rpdb._driver_set_trace"}) == {}
    assert driver_environment({"PYTHONBREAKPOINT": "pudb.set_trace"}) == {"PYTHONBREAKPOINT": "pudb.set_trace"}


def test_a_relative_data_folder_is_that_of_the_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    for named, meant in (("data", f"{tmp_path}/data"), ("/data", "/data"), ("~/data", "/home/me/data"), ("", "")):
        assert driver_environment({"PROFILER_DATA": named}) == {"PROFILER_DATA": meant}
