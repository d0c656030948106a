"""The dbt-duckdb plugin that lets DuckDB read the lake's Parquet files and write each model as one file a day.

Choosing the files that a run may read, and publishing what it wrote, stays out; see `resources.warehouse`.

dbt loads it by name (`plugins: [{module: resources.dbt_lake, alias: lake}]` in `dbt_project/profiles.yml`). What a run
may read and where it writes stands in one JSON file, whose path is in the environment under `ML_ASSETS_DBT_BINDINGS`:

    {"first_day": "2013-01-01", "last_day": "2013-01-31",   # both null where only whole tables are built
     "scratch": "...",                                       # a local folder: <model>/<day>.parquet, <model>.parquet
     "filesystem": {"protocol": "s3", "options": {...}},     # fsspec's; files elsewhere are fetched to scratch first
     "sources": {"raw.orders": {"2013-01-01": "..."}, "raw.shops": {"": "..."}},
     "models": {"stg_orders": {"2012-12-31": "..."}}}
"""

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbt.adapters.duckdb.plugins import BasePlugin
from dbt_common.exceptions import DbtRuntimeError

if TYPE_CHECKING:
    import pyarrow as pa
    from dbt.adapters.duckdb.utils import TargetConfig
    from duckdb import DuckDBPyConnection

VARIABLE = "ML_ASSETS_DBT_BINDINGS"
_DAYS_AT_ONCE = 31  # bounds the memory that a year's wide mart takes on its way to the files
_WRITERS = 2


@dataclass(frozen=True)
class Bindings:
    """What a run may read, for which days, and where it writes."""

    first_day: date | None
    last_day: date | None
    scratch: Path
    protocol: str
    options: Mapping[str, Any]
    sources: Mapping[str, Mapping[str, str]]
    models: Mapping[str, Mapping[str, str]]

    @property
    def days(self) -> list[date]:
        """The days of the run, in order; none where only whole tables are built."""
        if self.first_day is None or self.last_day is None:
            return []
        return [self.first_day + timedelta(days=past) for past in range((self.last_day - self.first_day).days + 1)]


def read_bindings(path: str | None) -> Bindings:
    """Return what the file at `path` says.

    Raises:
        DbtRuntimeError: there is no such file, or it does not say what it must.
    """
    if not path:
        raise DbtRuntimeError(
            f"the environment variable {VARIABLE} is not set; it must name the JSON file that says which files of the "
            "lake dbt may read. Build tables through `ml-assets run`, or write that file as resources/dbt_lake.py "
            "describes it."
        )
    try:
        said = json.loads(Path(path).read_text(encoding="utf-8"))
        found = Bindings(
            first_day=date.fromisoformat(said["first_day"]) if said.get("first_day") else None,
            last_day=date.fromisoformat(said["last_day"]) if said.get("last_day") else None,
            scratch=Path(said["scratch"]),
            protocol=said.get("filesystem", {}).get("protocol", "file"),
            options=said.get("filesystem", {}).get("options", {}),
            sources=said["sources"],
            models=said["models"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DbtRuntimeError(
            f"the bindings {path} (from {VARIABLE}) cannot be used: {type(error).__name__}: {error}. "
            "Expected JSON as resources/dbt_lake.py describes it."
        ) from error
    if (found.first_day is None) != (found.last_day is None):
        raise DbtRuntimeError(f"the bindings {path} name one of first_day and last_day; expected both, or neither.")
    if found.first_day and found.last_day and found.first_day > found.last_day:
        raise DbtRuntimeError(f"the bindings {path} end on {found.last_day}, before they begin on {found.first_day}.")
    return found


class Plugin(BasePlugin):
    """Gives DuckDB the lake's files, and takes finished tables to scratch files."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Read nothing yet: `dbt parse` needs no lake."""
        self.config = plugin_config

    def configure_connection(self, conn: "DuckDBPyConnection") -> None:
        """Show the bindings to the macros as tables of the schema `lake`.

        Every table with files becomes a view `lake."<name>"`; the macro `bind_lake` gives it its contract's columns.

        Raises:
            DbtRuntimeError: the bindings cannot be used, or a file they name cannot be fetched.
        """
        self.conn = conn
        self.bindings = _fetched(read_bindings(os.environ.get(VARIABLE)))
        spill = self.bindings.scratch / ".spill"
        conn.execute(f"set temp_directory = {_literal(spill)}")
        conn.execute("create schema if not exists lake")
        conn.execute("create table lake.run (first_day date, last_day date)")
        conn.execute("insert into lake.run values (?, ?)", [self.bindings.first_day, self.bindings.last_day])
        conn.execute("create table lake.tables (name varchar)")
        for name, files in {**self.bindings.sources, **self.bindings.models}.items():
            if files:
                conn.execute(f"create view lake.{_identifier(name)} as {_read(files)}")
                conn.execute("insert into lake.tables values (?)", [name])

    def store(self, target_config: "TargetConfig") -> None:
        """Write a finished table to scratch and put a view over its files in the model's place.

        Raises:
            DbtRuntimeError: a row's day is missing or outside the run's days, or the run has no days.
        """
        config = target_config.config
        model = str(config["model"])
        built = str(target_config.relation)
        cursor = self.conn.cursor()
        try:
            if config["is_by_day"]:
                written = self._store_days(cursor, built, model, list(config["key"]))
                files = {**self.bindings.models.get(model, {}), **written}
            else:
                path = self.bindings.scratch / f"{model}.parquet"
                _write(_ordered(cursor, built, list(config["key"]), "true"), path)
                files = {"": str(path)}
            cursor.execute(f"create or replace view {config['view']} as {_read(files)}")
        finally:
            cursor.close()

    def _store_days(self, cursor: "DuckDBPyConnection", built: str, model: str, key: list[str]) -> dict[str, str]:
        days = self.bindings.days
        if not days:
            raise DbtRuntimeError(
                f"model '{model}' is built by day, but the run's bindings name no first_day and last_day. "
                "Give the run its days, or leave the model out."
            )
        self._refuse_strangers(cursor, built, model)
        folder = self.bindings.scratch / model
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(_WRITERS) as writers:
            for first in range(0, len(days), _DAYS_AT_ONCE):
                block = days[first : first + _DAYS_AT_ONCE]
                rows = _ordered(cursor, built, ["day", *key], f"day between {_day(block[0])} and {_day(block[-1])}")
                pieces = list(_by_day(rows, block))
                for _ in writers.map(lambda piece: _write(piece[1], folder / f"{piece[0]}.parquet"), pieces):
                    pass
        return {day.isoformat(): str(folder / f"{day}.parquet") for day in days}

    def _refuse_strangers(self, cursor: "DuckDBPyConnection", built: str, model: str) -> None:
        first, last = self.bindings.days[0], self.bindings.days[-1]
        outside = f"day is null or day < {_day(first)} or day > {_day(last)}"
        strangers = cursor.execute(
            f"select day, count(*) from {built} where {outside} group by day order by day nulls first"  # noqa: S608 - dbt's own relation and dates
        ).fetchall()
        if strangers:
            count = sum(rows for _, rows in strangers)
            shown = ", ".join(f"{day or 'no day'} ({rows} rows)" for day, rows in strangers[:3])
            raise DbtRuntimeError(
                f"{count} rows of model '{model}' lie outside the run's days {first} to {last}: {shown}. "
                f"Expected every row's 'day' within them. Filter on first_day() and last_day() in the model, or mend "
                f"the file of the day that holds the row; nothing of '{model}' was written."
            )


def _fetched(bindings: Bindings) -> Bindings:
    """Return bindings to local copies, where the lake is not a folder.

    DuckDB can read through fsspec itself, but asks for pieces of every file again for each model, contract and test: a
    day with its look-back took 58 s against moto's S3, and 9 s with every file fetched once (upload included in both).
    """
    if bindings.protocol == "file":
        return bindings
    import fsspec

    cache = bindings.scratch / ".fetched"
    there: list[str] = []
    here: list[str] = []

    def local(tables: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for table, files in tables.items():
            (cache / table).mkdir(parents=True, exist_ok=True)
            found[table] = {day: str(cache / table / f"{day or 'whole'}.parquet") for day in files}
            there.extend(files.values())
            here.extend(found[table].values())
        return found

    copies = replace(bindings, sources=local(bindings.sources), models=local(bindings.models))
    try:
        fsspec.filesystem(bindings.protocol, **bindings.options).get(there, here)
    except (OSError, ValueError) as error:
        raise DbtRuntimeError(
            f"the lake's files ({bindings.protocol}) cannot be fetched: {error}. Expected every file that the bindings "
            "name to be there and readable; check the lake's address and credentials."
        ) from error
    return copies


def _ordered(cursor: "DuckDBPyConnection", table: str, order: list[str], where: str) -> "pa.Table":
    """Return rows in the order of their key, so that equal rows give equal files."""
    by = f" order by {', '.join(_identifier(column) for column in order)}" if order else ""
    return cursor.sql(f"select * from {table} where {where}{by}").to_arrow_table()  # noqa: S608 - as above


def _by_day(rows: "pa.Table", days: list[date]) -> Iterator[tuple[date, "pa.Table"]]:
    """Yield every day's slice of rows that are ordered by day, empty ones too."""
    import pyarrow.compute as pc

    counts = {pair["values"]: pair["counts"] for pair in pc.value_counts(rows["day"]).to_pylist()}
    start = 0
    for day in days:
        count = counts.get(day, 0)
        yield day, rows.slice(start, count)
        start += count


def _write(rows: "pa.Table", path: Path) -> None:
    """Write under another name first: a killed run leaves no half file where a whole one is expected."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    pq.write_table(rows, unfinished, compression="zstd")
    unfinished.replace(path)


def _read(files: Mapping[str, str]) -> str:
    paths = ", ".join(_literal(files[day]) for day in sorted(files))
    return f"select * from read_parquet([{paths}], hive_partitioning = false)"  # noqa: S608 - paths are quoted


def _literal(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _day(day: date) -> str:
    return f"date '{day.isoformat()}'"
