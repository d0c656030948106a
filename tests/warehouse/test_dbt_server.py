"""The process that forks dbt's processes: what each does on its own, and what ends them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

from ml_assets.lake.errors import WarehouseError
from ml_assets.warehouse.dbt_server import _SERVER, RESULTS, Dbt

FILES = {
    "dbt_project.yml": "{name: shop, version: '1.0', profile: shop}",
    "profiles.yml": """
        shop: {target: here, outputs: {here: {type: duckdb, schema: "{{ env_var('SCHEMA', 'main') }}"}}}
    """,
    "models/orders.sql": "{{ config(alias=env_var('ALIAS', 'orders')) }} select 1 as n",
    "models/wrong.sql": "select nothing",
    "models/endless.sql": """
        {{ config(materialized='table') }} select count(*) as n from range(1000000000), range(1000000000)
    """,
}

# The server's children are counted as Linux lists them.
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc")


@dataclass
class Shop:
    """A dbt project without sources, and the last lines of dbt about it."""

    folder: Path
    target: Path
    lines: list[str] = field(default_factory=list)

    def build(self, model: str = "orders", *, by: Dbt | None = None, log: Callable[[str], None] | None = None) -> int:
        with Dbt(self.folder) as dbt:
            self.lines.clear()
            command = ["run", "--select", model]
            return (by or dbt).build(command, bindings=self.folder, target=self.target, log=log or self.lines.append)

    def made(self) -> list[str]:
        return [line.split(" created sql view model ")[1].split(" ")[0] for line in self.lines if " created " in line]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(written(tmp_path / "shop"), tmp_path / "target")


def written(folder: Path) -> Path:
    (folder / "models").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def server() -> int:
    assert _SERVER._process is not None
    return _SERVER._process.pid


def children() -> Sequence[int]:
    return [int(pid) for pid in Path(f"/proc/{server()}/task/{server()}/children").read_text().split()]


def none_left() -> bool:
    """Return whether the server's children have ended; one that has closed its files is listed for a moment."""
    deadline = time.monotonic() + 60
    while children() and time.monotonic() < deadline:
        time.sleep(0.005)
    return not children()


def test_a_child_is_forked_from_a_process_without_threads_and_leaves_with_its_work(shop: Shop) -> None:
    assert 0 == shop.build()
    first = server()
    assert 0 == shop.build()

    assert (first, ["main.orders"]) == (server(), shop.made())
    assert [str(first)] == [task.name for task in Path(f"/proc/{first}/task").iterdir()]
    assert none_left()
    assert (shop.target / RESULTS).exists()


def test_changes_of_project_profile_and_environment_are_read_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop.folder / "target").mkdir()
    with Dbt(shop.folder) as dbt:
        assert 0 == dbt.parse(shop.folder / "target", print)
    shop.build()
    assert ["main.orders"] == shop.made()

    monkeypatch.setenv("ALIAS", "sales")
    shop.build()
    assert ["main.sales"] == shop.made()

    monkeypatch.setenv("SCHEMA", "other")
    shop.build()
    assert ["other.sales"] == shop.made()

    (shop.folder / "models" / "orders.sql").write_text("select 1 as n")
    shop.build()
    assert ["other.orders"] == shop.made()


def test_a_failed_model_and_a_project_that_cannot_be_read_have_dbts_own_exit_codes(shop: Shop) -> None:
    with Dbt(shop.folder) as dbt:
        assert 1 == shop.build("wrong", by=dbt)
        assert "nothing" in (shop.target / RESULTS).read_text(encoding="utf-8")
        assert 0 == shop.build(by=dbt)

    (shop.target / RESULTS).unlink()
    (shop.folder / "models" / "orders.sql").write_text("select * from {{ ref('nobody') }}")
    assert 2 == shop.build()
    assert "depends on a node named 'nobody' which was not found" in "\n".join(shop.lines)
    assert not (shop.target / RESULTS).exists()


def test_results_that_do_not_fit_on_the_disk_are_reported_and_removed(shop: Shop) -> None:
    shop.target.mkdir()
    (shop.target / RESULTS).symlink_to("/dev/full")

    with Dbt(shop.folder) as dbt:
        assert 2 == shop.build(by=dbt)
        assert "OSError: [Errno 28] No space left on device" in shop.lines
        assert not (shop.target / RESULTS).exists()

        assert 0 == shop.build(by=dbt)  # by the same process


def test_two_threads_have_a_child_each(shop: Shop, tmp_path: Path) -> None:
    other = Shop(written(tmp_path / "other"), tmp_path / "other-target")
    (other.folder / "models" / "orders.sql").write_text("{{ config(alias='others') }} select 1 as n")

    with ThreadPoolExecutor(2) as pool:
        codes = [*pool.map(Shop.build, (shop, other))]

    assert [0, 0] == codes
    assert [["main.orders"], ["main.others"]] == [shop.made(), other.made()]


@pytest.mark.timeout(60)
def test_an_interrupted_command_leaves_no_dbt_behind_and_the_next_one_works(shop: Shop) -> None:
    def interrupted(line: str) -> NoReturn:
        assert 1 == len(children()), line
        raise KeyboardInterrupt

    with Dbt(shop.folder) as dbt:
        with pytest.raises(KeyboardInterrupt):
            shop.build("endless", by=dbt, log=interrupted)
        assert none_left()
        assert 0 == shop.build(by=dbt)


@pytest.mark.timeout(60)
def test_a_killed_dbt_is_reported_with_its_output_and_the_next_one_works(shop: Shop) -> None:
    def kill(line: str) -> None:
        if "START sql table model main.endless" in line:
            os.kill(children()[0], signal.SIGKILL)

    with Dbt(shop.folder) as dbt:
        with pytest.raises(WarehouseError, match=r"ended before dbt did(.|\n)*Its last lines:(.|\n)*Running with dbt"):
            shop.build("endless", by=dbt, log=kill)
        assert 0 == shop.build(by=dbt)


@pytest.mark.timeout(60)
def test_a_dbt_that_the_kernel_killed_for_memory_takes_a_runs_pod_with_it(shop: Shop, tmp_path: Path) -> None:
    counter, message = tmp_path / "memory.oom_control", tmp_path / "termination-log"
    counter.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", encoding="ascii")
    message.touch()
    script = f"""
import os, signal, sys
from pathlib import Path
from ml_assets.warehouse import dbt_server
from ml_assets.machine import memory_kills
memory_kills._COUNTERS, memory_kills._LAST_MESSAGE = [Path({str(counter)!r})], Path({str(message)!r})

def as_the_kernel_does(line):
    if "START sql table model main.endless" in line:
        Path({str(counter)!r}).write_text("oom_kill_disable 0\\nunder_oom 0\\noom_kill 4\\n")
        server = dbt_server._SERVER._process.pid
        os.kill(int(Path(f"/proc/{{server}}/task/{{server}}/children").read_text()), signal.SIGKILL)

with dbt_server.Dbt(Path({str(shop.folder)!r})) as dbt:
    dbt.build(["run", "--select", "endless"], bindings=Path({str(shop.folder)!r}), target=Path({str(shop.target)!r}),
              log=as_the_kernel_does)
"""
    environment = {**os.environ, "DAGSTER_RUN_JOB_NAME": "flight_delay"}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)

    assert 137 == ended.returncode
    assert "A process of this pod was killed for memory, so the pod was ended: dbt." == message.read_text()
    assert "WarehouseError" not in ended.stderr


def test_the_server_ends_with_its_stdin_and_the_start_of_another_is_counted_for_its_first_call_only(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.build()
    before, process = server(), _SERVER._process
    assert process is not None
    seconds: list[float] = []

    def note(*, cpu_seconds: float, peak_bytes: int) -> None:
        assert peak_bytes > 2**20
        seconds.append(cpu_seconds)

    monkeypatch.setattr("ml_assets.warehouse.dbt_server.note_child", note)
    _SERVER._control.close()  # as the kernel does when the process is killed

    assert 0 == process.wait(timeout=60)
    with Dbt(shop.folder) as one, Dbt(shop.folder) as other:
        assert 0 == shop.build(by=one) == shop.build(by=other)
    assert before != server()
    first, _, second, _ = seconds  # each parses the project, then builds
    assert min(seconds) > 0
    assert first > second + 0.5  # importing dbt takes seconds
