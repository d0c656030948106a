"""Kill -9 at every write of the whole flow: no reader sees half of anything, and the next run ends as if undisturbed.

What a flow changes on the disk is written down once. The folder as it stood after each of these changes, and in the
middle of each file, is what a killed process leaves.
"""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import pytest

from ml_assets.contracts.decisions import Promotion
from ml_assets.lake.content import file_digest
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.order import RECORDS
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.sealed_frame import read_frame
from ml_assets.lake.steps import steps_of
from ml_assets.lake.store import Lake
from tests.builders import files_of
from tests.faults import Stopped
from tests.killing import (
    MODEL,
    Killed,
    Undisturbed,
    flow_killed,
    folder_after,
    outcome,
    whole_artifacts,
)

ALL: Final = "ML_ASSETS_ALL_FAULTS"
"""Set it to go on from every state that a kill can leave, which takes about an hour."""

SHARDS: Final = 16


def killed(flow: Undisturbed, lake: Path, when: str, number: int = 1) -> None:
    with Killed(lake, when, number=number) as disk, pytest.raises((Stopped, AssertionError)):
        flow.run(lake)  # Dagster calls the end of the world a failed step
    assert disk.left == 0


def really_killed(flow: Undisturbed, lake: Path, when: str) -> None:
    before = files_of(Lake(str(lake))).keys()
    assert signal.SIGKILL == flow_killed(lake, flow.sources, flow.memory, when)
    assert [] != [name for name in files_of(Lake(str(lake))).keys() - before if name.endswith(".part")]


def ref_of(folder: str) -> ArtifactRef:
    """Return the artifact of a folder under `artifacts/`."""
    place, _, version = folder.rpartition("/")
    asset, _, partition = place.rpartition("/")
    is_day = re.fullmatch(r"\d{4}-\d\d-\d\d", partition) is not None
    return ArtifactRef(asset=asset if is_day else place, partition=partition if is_day else None, version=version)


def check(lake: Lake, path: str) -> None:
    """Read what a path of the lake belongs to, if a reader can see it, as a reader does; it must be whole."""
    kind, *parts = path.split("/")
    CHECKS[kind](lake, parts)


def check_artifact(lake: Lake, parts: Sequence[str]) -> None:
    ref = ref_of("/".join(parts[:-1]))
    if ref not in lake.versions(ref.asset, [ref.partition or ""]).get(ref.partition or "", []):
        return
    for made in lake.manifests(ref):
        assert made.files
        for entry in made.files:
            with lake.opened(f"{lake.directory(ref)}/{entry.name}") as file:
                assert entry.digest == file_digest(file), f"{ref}: {entry.name}"


def check_log(lake: Lake, parts: Sequence[str]) -> None:
    entries = PromotionLog(lake, parts[0]).entries()
    assert [*range(1, len(entries) + 1)] == [entry.number for entry in entries]


def check_steps(lake: Lake, parts: Sequence[str]) -> None:
    assert all(record.run_id == parts[0] for record in steps_of(lake, parts[0]))


def check_studies(lake: Lake, parts: Sequence[str]) -> None:
    for name in lake.names(lake.path("studies", parts[0])):
        trials = read_frame(lake, lake.path("studies", parts[0], name))
        assert trials is not None
        assert trials.height > 0


def check_environments(lake: Lake, parts: Sequence[str]) -> None:
    for name in lake.names(lake.path("environments")):
        assert json.loads(lake.read(lake.path("environments", name)))


def check_order(lake: Lake, parts: Sequence[str]) -> None:
    for name in lake.names(lake.path("order", *parts[:-1])):
        path = lake.path("order", *parts[:-1], name)
        record = RECORDS.read(lake, path).record
        assert record.ref in lake.versions(record.asset)[record.partition or ""]


CHECKS: Final[Mapping[str, Callable[[Lake, Sequence[str]], None]]] = {
    "artifacts": check_artifact,
    "environments": check_environments,
    "order": check_order,
    "promotions": check_log,
    "runs": check_steps,
    "studies": check_studies,
}


def test_all_that_a_flow_writes_can_be_stopped(undisturbed: Undisturbed, tmp_path: Path) -> None:
    again = folder_after(undisturbed.changes, tmp_path / "lake")

    assert files_of(Lake(str(undisturbed.lake))) == files_of(Lake(str(again)))
    assert {*CHECKS} == {path.name for path in again.iterdir()}


def test_after_every_change_and_in_the_middle_of_every_file_a_reader_sees_whole_things_only(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    root = Path(lake.url)
    root.mkdir()
    seen: set[str] = set()
    for change in undisturbed.changes:
        for half in (True, False) if change.name == "fill" else (False,):
            change.do(root, half=half)
            if change.name in {"make_folder", "sync_folder"}:
                continue
            folder = change.path.rpartition("/")[0]
            there = {f"{folder}/{name}" for name in lake.names(lake.path(folder))}
            assert {change.seen} - {""} - seen == there - seen
            seen |= there
            check(lake, change.seen or change.path)

    assert whole_artifacts(Lake(str(undisturbed.lake))) == whole_artifacts(lake)


# ---------------------------------------------------------------- the next run


def test_a_flow_that_is_killed_again_and_again_ends_as_one_that_is_not(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    for when, number in (
        ("link environments/*", 1),
        ("fill artifacts/raw/flights/*/data.parquet.*", 5),
        ("link artifacts/raw/weather/*/manifest-*.json", 3),
        ("link artifacts/tables/stg_flights/*/manifest-*.json", 4),
        ("unlink artifacts/*/features/*/manifest-*.json.*", 2),
        ("link order/*/labels/*/000001.json", 2),
        ("replace artifacts/*/training_set/*/summary.json", 1),
        ("link runs/*/*__importances/0.json", 1),
        ("replace studies/*", 2),
        ("fill artifacts/*/model/*/contract.json.*", 1),
    ):
        killed(undisturbed, lake, when, number)
    really_killed(undisturbed, lake, "fill artifacts/*/champion/*/data.json.*")
    for when in ("replace artifacts/*/drift/*/summaries.json", "link artifacts/*/card/*/manifest-*.json"):
        killed(undisturbed, lake, when)

    undisturbed.run(lake)

    assert outcome(Lake(str(undisturbed.lake))) == outcome(Lake(str(lake)))


@pytest.mark.parametrize("when", ["link promotions/*", "unlink promotions/*", "link artifacts/*/champion/*"])
def test_a_gate_that_is_killed_before_or_after_its_entry_writes_one_entry(
    undisturbed: Undisturbed, tmp_path: Path, when: str
) -> None:
    name, _, pattern = when.partition(" ")
    number = next(
        n for n, it in enumerate(undisturbed.changes) if it.name == name and fnmatch(it.target or it.path, pattern)
    )
    lake = folder_after(undisturbed.changes[:number], tmp_path / "lake")
    before = PromotionLog(Lake(str(lake)), MODEL).entries()

    with Killed(lake, "link runs/*/*__predictions/0.json"), pytest.raises((Stopped, AssertionError)):
        undisturbed.run(lake)

    log = PromotionLog(Lake(str(lake)), MODEL).entries()
    assert 1 == len(log)
    assert before == log[: len(before)]
    assert log[0] == Lake(str(lake)).get(Lake(str(lake)).find(f"{MODEL}/champion"), Promotion)


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get(ALL), reason=f"takes about an hour; set {ALL}=1")
@pytest.mark.parametrize("shard", range(SHARDS))
def test_from_every_state_that_a_kill_can_leave_the_next_run_ends_as_undisturbed(
    undisturbed: Undisturbed, tmp_path: Path, shard: int
) -> None:
    """Between two changes that a reader sees, states differ in what is under another name, which nobody reads."""
    changes = undisturbed.changes
    expected = outcome(Lake(str(undisturbed.lake)))
    for number in [n for n, change in enumerate(changes) if change.seen][shard::SHARDS]:
        lake = folder_after(changes[:number], tmp_path / str(number), torn=changes[number].path)
        undisturbed.run(lake)
        assert expected == outcome(Lake(str(lake))), changes[number].seen
        shutil.rmtree(lake)
