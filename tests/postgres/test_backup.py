"""A drill: database and lake are saved, both are lost, and what is restored goes on as before."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_assets.cli.init import project_files, write_new
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.store import Lake
from tests.postgres.instances import settings_of
from tests.postgres.server import PASSWORD, Server, binaries

ROOT = Path(__file__).parent.parent.parent
MODEL = "rental_demand"


@dataclass(frozen=True)
class Place:
    """A lake and a database on which the commands of a project work."""

    project: Path
    lake: Path
    home: Path

    @classmethod
    def over(cls, project: Path, name: str, database: Mapping[str, Any]) -> "Place":
        home = project.parent / f"home-{name}"
        home.mkdir()
        (home / "dagster.yaml").write_text(yaml.safe_dump(settings_of(database)))
        return cls(project, project.parent / f"lake-{name}", home)

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command that must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "ml_assets.cli.main", *arguments], cwd=self.project, capture_output=True, text=True,
            check=False, env={
                **os.environ, "PYTHONPATH": str(ROOT), "ML_ASSETS_LAKE": str(self.lake), "DAGSTER_HOME": str(self.home),
            },
        )  # fmt: skip
        assert 0 == done.returncode, done.stdout + done.stderr
        return done

    def status(self) -> dict[str, Any]:
        """Return the status of all models, without the lake's address."""
        found: dict[str, Any] = json.loads(self.command("status", "--json").stdout)
        return {name: it for name, it in found.items() if name != "lake"}


def client(program: str, database: Mapping[str, Any], *arguments: str) -> None:
    """Run a program of PostgreSQL on a database."""
    folder = binaries()
    assert folder is not None
    subprocess.run(
        [str(folder / program), "-h", "127.0.0.1", "-p", str(database["port"]), "-U", "postgres", *arguments,
         "-d", database["db_name"]],
        check=True, capture_output=True, env={**os.environ, "PGPASSWORD": PASSWORD},
    )  # fmt: skip


@pytest.mark.long
def test_a_restored_database_and_lake_have_the_same_status_and_the_next_run_goes_on(
    postgres: Server, tmp_path: Path
) -> None:
    project, dump = tmp_path / "shop", tmp_path / "dump.sql"
    write_new(project, project_files("shop", is_bare=False))
    lost, found = postgres.database(), postgres.database()
    before, after = Place.over(project, "lost", lost), Place.over(project, "restored", found)
    before.command("run", MODEL, "--as-of", "2011-08-20")
    status, log = before.status(), PromotionLog(Lake(str(before.lake)), MODEL).entries()

    client("pg_dump", lost, "-f", str(dump))
    shutil.copytree(before.lake, after.lake)
    shutil.rmtree(before.lake)
    client("psql", found, "-q", "-v", "ON_ERROR_STOP=1", "-f", str(dump))

    assert status == after.status()
    assert "training: up to date" in after.command("run", MODEL, "--as-of", "2011-08-20").stderr
    empty = replace(Place.over(project, "empty", postgres.database()), lake=after.lake)
    assert "training: up to date" in empty.command("run", MODEL, "--as-of", "2011-08-20").stderr
    after.command("run", MODEL, "--as-of", "2011-08-26")
    entries = PromotionLog(Lake(str(after.lake)), MODEL).entries()
    assert log == entries[: len(log)]
    assert len(log) + 1 == len(entries)
    after.command("doctor")  # which would not succeed if anything were wrong
