"""Addresses that no campaign can use are refused before anything is made, with what to give instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.address import chosen_address
from cluster.driver import resume_campaign
from cluster.job import beside_job_modules, check_kept
from cluster.session import open_ray
from profiler.errors import UsageError
from tests import campaigns

CLIENT = "ray://127.0.0.1:10001"


def test_the_given_address_comes_before_the_environments() -> None:
    assert chosen_address("here:6379", {"RAY_ADDRESS": "there:6379"}) == "here:6379"
    assert chosen_address(None, {"RAY_ADDRESS": "there:6379"}) == "there:6379"
    assert chosen_address(None, {"RAY_ADDRESS": ""}) is None


def test_an_unusable_address_of_the_environment_is_named_as_that() -> None:
    with pytest.raises(UsageError, match=r"^\$RAY_ADDRESS http://127.0.0.1:8265: that is no Ray node\n"):
        chosen_address(None, {"RAY_ADDRESS": "http://127.0.0.1:8265"})


def test_ray_client_is_refused_with_what_to_use(tmp_path: Path) -> None:
    path = campaigns.config(tmp_path, [campaigns.quick()])
    result = campaigns.run("run", path, "--results", tmp_path / "results", "--address", CLIENT)
    assert result.returncode == 2, result.stderr
    assert f"--address {CLIENT}: Ray Client has no streaming tasks" in result.stderr
    assert "HOST:PORT" in result.stderr and "ray job submit" in result.stderr
    assert not (tmp_path / "results").exists()


def test_whatever_opens_ray_refuses_it() -> None:
    with pytest.raises(UsageError, match="Ray Client"), open_ray(CLIENT):
        pass
    with pytest.raises(UsageError, match="Ray Client"):
        resume_campaign("no-such-session", address=CLIENT)


def test_results_in_rays_copy_of_a_working_directory_are_refused(tmp_path: Path) -> None:
    copy = tmp_path / "session" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    with pytest.raises(UsageError, match=r"which Ray removes after the job\n.*absolute folder"):
        check_kept(copy / "results")
    check_kept(tmp_path / "results")


def test_modules_of_the_job_stay_beside_ours() -> None:
    job = {"RAY_JOB_CONFIG_JSON_ENV_VAR": '{"runtime_env": {"py_modules": ["gcs://theirs.zip"]}}'}
    assert beside_job_modules(["/ours"], job) == ["gcs://theirs.zip", "/ours"]
    assert job["RAY_OVERRIDE_JOB_RUNTIME_ENV"] == "1"
    plain: dict[str, str] = {}
    assert beside_job_modules(["/ours"], plain) == ["/ours"]
    assert plain == {}
