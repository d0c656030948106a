"""A model of a table of which nothing was declared: from a file to a champion; its tests and its notebook run."""

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml_assets.cli.init import project_files, write_new
from ml_assets.cli.main import main
from ml_assets.lake.store import Lake
from tests.logic.inspection.tables import searches, visits

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.long


def patients() -> pl.DataFrame:
    """Return visits of 200 patients, without a time. The diagnosis says all; the readings and the age say much."""
    random, rows = np.random.default_rng(0), 3_000
    patient, readings, age = random.integers(0, 200, rows), random.normal(size=(4, rows)), random.integers(20, 90, rows)
    risk = 1.5 * readings.sum(axis=0) + (age - 55) / 15 + random.normal(size=200)[patient]
    is_sick = random.random(rows) < 1 / (1 + np.exp(-risk))
    return pl.DataFrame(
        {
            "patient_id": patient,
            **{f"Reading {n} (mg)": reading.round(4) for n, reading in enumerate(readings)},
            "age": age,
            "clinic": random.choice(["north", "south"], rows),
            "diagnosis": np.where(is_sick, "D1", "D0"),
            "state": np.where(is_sick, "sick", "healthy"),
        }
    )


def example_of(page: str) -> list[list[str]]:
    """Return the commands `new` and `run` of the first example of a page, without questions."""
    [block, *_] = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)
    words = [line.split()[1:] for line in block.splitlines()]
    return [[*it, "--yes"] if it[0] == "new" else it for it in words if it[:1] in (["new"], ["run"])]


def passes_its_tests(project: Path) -> None:
    """Run the tests that were written, in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout + done.stderr


def test_a_ranking_becomes_a_champion_that_ranks_better_than_a_random_order_and_its_best_feature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "travel"
    write_new(project, project_files("travel", is_bare=True))
    monkeypatch.chdir(project)
    for name, value in (("PROJECT", project), ("LAKE", tmp_path / "lake")):
        monkeypatch.setenv(f"ML_ASSETS_{name}", str(value))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    searches().write_csv(project / "searches.csv")
    asked = ["--task", "ranking", "--group", "search_id", "--yes"]

    assert 0 == main(["new", "hotels", "--table", "searches.csv", "--target", "relevance", *asked])
    assert 0 == main(["run", "hotels"])
    printed = " ".join(capsys.readouterr().out.split())
    for sentence in ("Beats the baseline 'constant': ndcg at 10 within search_id", "Beats the baseline 'best feature'",
                     "performance ndcg at 10 within search_id measured on 1 of 1 days"):  # fmt: skip
        assert sentence in printed


def test_a_file_without_time_or_key_becomes_a_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "clinic"
    write_new(project, project_files("clinic", is_bare=True))
    monkeypatch.chdir(project)
    for name, value in (("PROJECT", project), ("LAKE", tmp_path / "lake")):
        monkeypatch.setenv(f"ML_ASSETS_{name}", str(value))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    patients().write_csv(project / "visits.csv", separator=";")

    assert 0 == main(["new", "sick", "--table", "visits.csv", "--target", "state", "--yes"])
    assert 0 == main(["run", "sick"])  # it exits with 1 without a champion
    passes_its_tests(project)
    names = dict[str, object]()
    for cell in json.loads((project / "notebooks" / "sick.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # noqa: S102 - the notebook that was written
    assert {"train", "test", "champion"} <= {*names}


def test_events_become_a_champion_and_the_label_mart_is_that_of_a_loop_over_all_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project, lake = tmp_path / "gym", Lake(str(tmp_path / "lake"))
    write_new(project, project_files("gym", is_bare=True))
    monkeypatch.chdir(project)
    for name, value in (("PROJECT", project), ("LAKE", tmp_path / "lake")):
        monkeypatch.setenv(f"ML_ASSETS_{name}", str(value))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    rows, horizon = visits(), timedelta(days=7)
    rows.write_csv(project / "visits.csv")

    for command in example_of("from-events"):
        assert 0 == main(command)  # run exits with 1 without a champion, or with a leak
    assert "No leak was found" in " ".join(capsys.readouterr().out.split())
    tables = {
        name: lake.scan([*lake.newest(f"tables/again_{name}").values()]).collect()
        for name in ("population", "outcomes")
    }
    times = {member: part["visited_at"].to_list() for (member,), part in rows.group_by("member_id")}
    complete = datetime(2024, 7, 15)  # noqa: DTZ001 - the last whole week ends before it
    expected = {
        (member, at): any(at < it <= at + horizon for it in times[member])
        for member, at in tables["population"].select("member_id", "predicted_at").iter_rows()
        if at + horizon < complete
    }
    found = tables["outcomes"].select("member_id", "predicted_at", "event_within_7d", "label_known_at").rows()
    assert expected == {(member, at): label for member, at, label, _ in found}
    assert all(known == at + horizon for _, at, _, known in found)
    assert tables["population"].height > len(expected)  # the others have no label yet
    passes_its_tests(project)
