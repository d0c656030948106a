"""Processes that the kernel killed for memory: their number, and which part of a pod continues."""

from pathlib import Path

import pytest

from ml_assets.machine import memory_kills


class Ended(BaseException):
    """The process would have ended here."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 0\n", 2),  # cgroup v2: memory.events
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),  # v1: memory.oom_control
        ("oom_kill_disable 0\nunder_oom 0\n", 0),  # of a kernel before 4.13
        (None, 0),
    ],
)
def test_kills_are_counted_in_either_version_of_cgroups(
    text: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = tmp_path / "counter"
    if text is not None:
        counter.write_text(text, encoding="ascii")
    monkeypatch.setattr(memory_kills, "_COUNTERS", (tmp_path / "none", counter))

    assert expected == memory_kills.kills()


@pytest.mark.parametrize("job", [None, "flight_delay"])
def test_only_a_pod_that_dagster_started_ends_itself(
    job: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr("os._exit", end)
    monkeypatch.setattr(memory_kills, "_LAST_MESSAGE", tmp_path / "not-mounted")
    if job is None:
        monkeypatch.delenv("DAGSTER_RUN_JOB_NAME", raising=False)
        memory_kills.end_pod("dbt")
    else:
        monkeypatch.setenv("DAGSTER_RUN_JOB_NAME", job)
        with pytest.raises(Ended, match="137"):
            memory_kills.end_pod("dbt")
