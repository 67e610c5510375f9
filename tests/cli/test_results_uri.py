"""`--results URI` as a user meets it: a local session, its copy there, and what is said when files are missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import profiler
from tests import campaigns


@pytest.mark.ray
@pytest.mark.slow
def test_a_campaign_is_copied_and_missing_files_end_with_3(tmp_path: Path) -> None:
    path = campaigns.config(tmp_path, [campaigns.quick()], cooling={"seconds": 0})
    env = {"PROFILER_SPOOL": str(tmp_path / "spool")}
    there = tmp_path / "there"
    done = campaigns.run("run", path, "--results", there.as_uri(), **env)
    assert done.returncode == 0, done.stderr
    (copy,), (session,) = there.glob("run_*"), (tmp_path / "spool" / "results").glob("run_*")
    assert f"copied to {copy.as_uri()} as runs end; the working folder is {session}" in done.stderr
    assert f"copied: the whole session is at {copy.as_uri()}" in done.stderr
    assert [row["verdict"] for row in profiler.open(copy).rows()] == ["valid"]
    assert profiler.open(copy).samples(profiler.open(copy).rows()[0]["run_id"]).size > 0

    shutil.rmtree(copy)
    copy.touch()  # a file, where the session's folder would be
    record = session / ".copied"
    record.write_text(record.read_text().splitlines()[0] + "\n")
    failed = campaigns.run("resume", session, "--json", **env)
    assert failed.returncode == 3, failed.stderr
    assert f"error: {len(json.loads(failed.stdout)['not_copied'])} files are not at {copy.as_uri()}" in failed.stderr


def test_a_uri_is_refused_where_a_folder_is_needed(tmp_path: Path) -> None:
    for words in (["doctor"], ["import", tmp_path]):
        refused = campaigns.run(*words, "--results", "s3://bucket/x")
        assert refused.returncode == 2 and "a folder of this machine is needed here" in refused.stderr
