"""The dbt-duckdb plugin: DuckDB reads the lake's Parquet files, and each model is written as one file per day.

Not here: which files a run may read, and publishing its results (see `ml_assets.warehouse.warehouse`).

dbt loads the plugin by name: `plugins: [{module: ml_assets.warehouse.dbt_lake, alias: lake}]` in
`dbt_project/profiles.yml`. A JSON file, whose path is in `ML_ASSETS_DBT_BINDINGS`, lists what a run may read and where
it writes:

    {"first_day": "2013-01-01", "last_day": "2013-01-31",   # both null if only whole tables are built
     "grain": "day",                                         # or week, month, year, each with a file; optional
     "days": {"stg_orders": ["2012-12-31", "2013-01-31"]},   # models with a range of their own; optional
     "one_file": true,                                       # <model>.parquet for tables by day too; optional
     "threads": 1,                                           # cores for each model; optional
     "scratch": "...",                                       # a local folder: <model>/<day>.parquet, <model>.parquet
     "statements": "...",                                    # file for the SQL that built the tables; optional
     "sources": {"raw.orders": {"2013-01-01": "..."}, "raw.shops": {"": "..."}},   # files on this machine
     "models": {"stg_orders": {"2012-12-31": "..."}},
     "quarantine": {"stg_orders": {"share": 0.01,            # tables that may quarantine rows; optional
                                   "rules": {"n is at least 0": "n < 0"},   # SQL that is true if a row breaks it
                                   "released": "..."}}}         # rows that pass unchanged, or null
"""

import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.dbt import DbtRuntimeError
from ml_assets.adapters.dbt_duckdb import BasePlugin, DuckDBCredentials, TargetConfig
from ml_assets.contracts.periods import BY_DAY, Grain, last_day_of, period_of, periods_between, shortest_length
from ml_assets.contracts.quarantine import too_many_broken
from ml_assets.contracts.sql import identifier
from ml_assets.warehouse.duckdb_session import literal, pin, set_elsewhere

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

VARIABLE = "ML_ASSETS_DBT_BINDINGS"
_DAYS_AT_ONCE = 31  # limits the memory for writing a wide mart of a year
_WRITERS = 2


@dataclass(frozen=True)
class Bindings:
    """What a run may read, for which days, and where it writes."""

    first_day: date | None
    last_day: date | None
    scratch: Path
    sources: Mapping[str, Mapping[str, str]]
    models: Mapping[str, Mapping[str, str]]
    model_days: Mapping[str, tuple[date, date]] = field(default_factory=dict)
    quarantine: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    one_file: bool = False
    threads: int = 1
    statements: Path | None = None
    grain: Grain = BY_DAY

    @property
    def days(self) -> list[date]:
        """The days of the run, or the first days of its periods, in order; empty if only whole tables are built."""
        if self.first_day is None or self.last_day is None:
            return []
        return periods_between(self.first_day, self.last_day, self.grain)

    def days_of(self, model: str) -> list[date]:
        """The days, or first days of periods, that a model is built for: its own range, or else the run's."""
        own = self.model_days.get(model)
        return self.days if own is None else periods_between(*own, self.grain)


def read_bindings(path: str | None) -> Bindings:
    """Return the bindings in the file at `path`.

    Raises:
        DbtRuntimeError: the file does not exist, or is malformed.
    """
    if not path:
        raise DbtRuntimeError(
            f"the environment variable {VARIABLE} is not set; expected the path of a JSON file that lists the files "
            "that dbt may read. Build tables with `ml-assets run`, or write that file as described in "
            "ml_assets.warehouse.dbt_lake."
        )
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        found = Bindings(
            first_day=date.fromisoformat(content["first_day"]) if content.get("first_day") else None,
            last_day=date.fromisoformat(content["last_day"]) if content.get("last_day") else None,
            scratch=Path(content["scratch"]),
            sources=content["sources"],
            models=content["models"],
            model_days={
                model: (date.fromisoformat(first), date.fromisoformat(last))
                for model, (first, last) in content.get("days", {}).items()
            },
            quarantine=content.get("quarantine", {}),
            one_file=bool(content.get("one_file", False)),
            threads=int(content.get("threads", 1)),
            grain=content.get("grain", BY_DAY),
            statements=Path(content["statements"]) if content.get("statements") else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DbtRuntimeError(
            f"the bindings {path} (from {VARIABLE}) cannot be used: {type(error).__name__}: {error}. "
            "Expected JSON as ml_assets/warehouse/dbt_lake.py describes it."
        ) from error
    if (found.first_day is None) != (found.last_day is None):
        raise DbtRuntimeError(
            f"the bindings {path} contain only one of first_day and last_day; expected both, or neither."
        )
    if found.first_day and found.last_day and found.first_day > found.last_day:
        raise DbtRuntimeError(f"the bindings {path} end on {found.last_day}, before they begin on {found.first_day}.")
    upside_down = [model for model, (first, last) in found.model_days.items() if first > last]
    if upside_down:
        raise DbtRuntimeError(f"the bindings {path} give models days that end before they begin: {upside_down}.")
    return found


class Plugin(BasePlugin):
    """Provides the lake's files to DuckDB, and writes finished tables to scratch files."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Read nothing yet, because `dbt parse` needs no lake."""
        self.config = plugin_config

    def update_connection_config(self, creds: DuckDBCredentials, config: dict[str, Any]) -> None:
        """Reject a profile that sets an option that `ml_assets.warehouse.duckdb_session` pins.

        Raises:
            DbtRuntimeError: the profile sets such an option.
        """
        if names := set_elsewhere([*config, *(creds.settings or {})]):
            raise DbtRuntimeError(
                f"the dbt profile sets {', '.join(names)}, which results depend on. "
                "ml_assets.warehouse.duckdb_session sets them for every connection. "
                "Remove them from 'config_options' and 'settings' in profiles.yml."
            )

    def configure_connection(self, conn: "DuckDBPyConnection") -> None:
        """Expose the bindings to the macros as tables of the schema `lake`.

        Every table with files becomes a view `lake."<name>"`. The macro `bind_lake` gives it its contract's columns.

        Raises:
            DbtRuntimeError: the bindings are not valid.
        """
        self.conn = conn
        self.executed: list[str] = []
        self.bindings = read_bindings(os.environ.get(VARIABLE))
        pin(conn, threads=self.bindings.threads)
        spill = self.bindings.scratch / ".spill"
        conn.execute(f"set temp_directory = {literal(spill)}")
        conn.execute("create schema if not exists lake")
        # The row without a model holds the run's days; see macros/days.sql.
        conn.execute("create table lake.run (model varchar, first_day date, last_day date)")
        conn.execute("insert into lake.run values (null, ?, ?)", [self.bindings.first_day, self.bindings.last_day])
        for model, (first, last) in self.bindings.model_days.items():
            conn.execute("insert into lake.run values (?, ?, ?)", [model, first, last])
        conn.execute("create table lake.tables (name varchar)")
        for name, files in {**self.bindings.sources, **self.bindings.models}.items():
            if files:
                conn.execute(f"create view lake.{identifier(name)} as {_read(files)}")
                conn.execute("insert into lake.tables values (?)", [name])
        conn.execute("create table lake.rules (model varchar, position integer, rule varchar, predicate varchar)")
        for model, quarantine in self.bindings.quarantine.items():
            for place, (rule, predicate) in enumerate(quarantine["rules"].items()):
                conn.execute("insert into lake.rules values (?, ?, ?, ?)", [model, place, rule, predicate])
            if quarantine["released"]:
                name = f"{model}__released"
                conn.execute(f"create view lake.{identifier(name)} as {_read({'': quarantine['released']})}")
                conn.execute("insert into lake.tables values (?)", [name])

    def store(self, target_config: TargetConfig) -> None:
        """Write a finished table to scratch, and replace the model by a view over its files.

        Raises:
            DbtRuntimeError: a row's day is missing or outside the run's days, the run has no days, or too many rows
                would be quarantined.
        """
        config = target_config.config
        model, key = str(config["model"]), list(config["key"])
        built, unsplit = str(target_config.relation), config["unsplit"]
        cursor = self.conn.cursor()
        try:
            if self.bindings.statements is not None and not self.executed:
                self.executed += _views(cursor)
            days = self._days_of(cursor, unsplit or built, model) if config["is_by_day"] else None
            if unsplit:
                self._quarantine(cursor, unsplit, model, days, key)
                # Including released rows: the contract's constraints were checked on the other rows.
                columns = "select * exclude (broken_rules, __is_aside)"
                built = f"({columns} from {unsplit} where not __is_aside)"
            if self.bindings.statements is not None:
                view = f"create or replace view {config['view']} as select * from {built}"  # noqa: S608 - dbt's own relation
                self.executed += [*filter(None, config["statements"]), view]
                self.bindings.statements.write_text(json.dumps(self.executed), encoding="utf-8")
            written = self._store(cursor, built, model, days, key)
            files = {**self.bindings.models.get(model, {}), **written} if days else written
            cursor.execute(f"create or replace view {config['view']} as {_read(files)}")
        finally:
            cursor.close()

    def _days_of(self, cursor: "DuckDBPyConnection", table: str, model: str) -> list[date]:
        days = self.bindings.days_of(model)
        if not days:
            raise DbtRuntimeError(
                f"model '{model}' is built by day, but the run's bindings contain no first_day and last_day. "
                "Pass the days of the run, or exclude the model."
            )
        self._check_days(cursor, table, model, days)
        return days

    def _store(
        self, cursor: "DuckDBPyConnection", table: str, name: str, days: list[date] | None, key: list[str]
    ) -> dict[str, str]:
        """Write rows to scratch, one file per day or period if there are days, and return the files."""
        if days is None or self.bindings.one_file:
            path = self.bindings.scratch / f"{name}.parquet"
            _write(_ordered(cursor, table, key if days is None else ["day", *key], "true"), path)
            return {"": str(path)}
        folder = self.bindings.scratch / name
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(_WRITERS) as writers:
            at_once = max(1, _DAYS_AT_ONCE // shortest_length(self.bindings.grain))
            for first in range(0, len(days), at_once):
                block = days[first : first + at_once]
                last = last_day_of(block[-1], self.bindings.grain)
                rows = _ordered(cursor, table, ["day", *key], f"day between {_day(block[0])} and {_day(last)}")
                pieces = list(_by_period(rows, block, self.bindings.grain))
                for _ in writers.map(lambda piece: _write(piece[1], folder / f"{piece[0]}.parquet"), pieces):
                    pass
        return {day.isoformat(): str(folder / f"{day}.parquet") for day in days}

    def _quarantine(
        self, cursor: "DuckDBPyConnection", unsplit: str, model: str, days: list[date] | None, key: list[str]
    ) -> None:
        """Write the rows that break rules beside the table. If a day has too many, write all its rows and raise.

        Raises:
            DbtRuntimeError: more rows than the declared share break rules.
        """
        share = float(self.bindings.quarantine[model]["share"])
        grain = self.bindings.grain
        period = "day" if grain == BY_DAY else f"cast(date_trunc('{grain}', day) as date)"
        of = "''" if days is None else f"cast({period} as varchar)"
        over = cursor.execute(
            f"select {of}, avg(cast(__is_aside as double)) from {unsplit} group by 1 "  # noqa: S608 - dbt's own relation
            f"having avg(cast(__is_aside as double)) > {share} order by 1"
        ).fetchall()
        if not over:
            aside = f"(select * exclude (__is_aside) from {unsplit} where __is_aside)"  # noqa: S608 - as above
            self._store(cursor, aside, f"{model}__quarantine", days, key)
            return
        everything = f"(select * exclude (__is_aside) from {unsplit})"  # noqa: S608 - as above
        whole: list[list[date] | None] = [None]
        for refused in whole if days is None else [[date.fromisoformat(day)] for day, _ in over]:
            self._store(cursor, everything, f"{model}__rejected", refused, key)
        raise DbtRuntimeError("\n".join(too_many_broken(part, share, day) for day, part in over))

    def _check_days(self, cursor: "DuckDBPyConnection", built: str, model: str, days: list[date]) -> None:
        first, last = days[0], last_day_of(days[-1], self.bindings.grain)
        outside = f"day is null or day < {_day(first)} or day > {_day(last)}"
        outsiders = cursor.execute(
            f"select day, count(*) from {built} where {outside} group by day order by day nulls first"  # noqa: S608 - dbt's own relation and dates
        ).fetchall()
        if outsiders:
            count = sum(rows for _, rows in outsiders)
            shown = ", ".join(f"{day or 'no day'} ({rows} rows)" for day, rows in outsiders[:3])
            raise DbtRuntimeError(
                f"{count} rows of model '{model}' are outside the run's days {first} to {last}: {shown}. "
                f"Expected every row's 'day' within them. Filter on first_day() and last_day() in the model, or "
                f"correct the file of the day that contains the row; nothing of '{model}' was written."
            )


def _views(cursor: "DuckDBPyConnection") -> list[str]:
    """Return the SQL of the views and schemas that `bind_lake` created, without the views on files."""
    found = cursor.execute(
        "select schema_name, sql from duckdb_views() where not internal and schema_name <> 'lake' order by view_oid"
    ).fetchall()
    schemas = dict.fromkeys(schema for schema, _ in found)
    return [*(f"create schema if not exists {identifier(schema)}" for schema in schemas), *(sql for _, sql in found)]


def _ordered(cursor: "DuckDBPyConnection", table: str, order: list[str], where: str) -> "pa.Table":
    """Return rows ordered by their key, so that equal rows give equal files."""
    by = f" order by {', '.join(identifier(column) for column in order)}" if order else ""
    return cursor.sql(f"select * from {table} where {where}{by}").to_arrow_table()  # noqa: S608 - as above


def _by_period(rows: "pa.Table", periods: list[date], grain: Grain) -> Iterator[tuple[date, "pa.Table"]]:
    """Yield the rows of every period, including empty ones. The input is ordered by day."""
    import pyarrow.compute as pc

    counts = Counter[date]()
    for pair in pc.value_counts(rows["day"]).to_pylist():
        counts[period_of(pair["values"], grain)] += pair["counts"]
    start = 0
    for period in periods:
        yield period, rows.slice(start, counts[period])
        start += counts[period]


def _write(rows: "pa.Table", path: Path) -> None:
    """Write to a temporary name first, so that a killed run leaves no incomplete file."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    pq.write_table(rows, unfinished, compression="zstd")
    unfinished.replace(path)


def _read(files: Mapping[str, str]) -> str:
    """Return SQL over all files. If the last day's types differ from the first's, each column gets the wider type.

    By default DuckDB uses the first file's types, and fails if a value does not fit. Its `union_by_name` makes a year
    of 60 columns six times slower, so it is used only if types differ.
    """
    import pyarrow.parquet as pq

    paths = [files[day] for day in sorted(files)]
    first, last = pq.read_schema(paths[0]), pq.read_schema(paths[-1])
    union = "" if first.equals(last) else ", union_by_name = true"
    listed = ", ".join(map(literal, paths))
    return f"select * from read_parquet([{listed}], hive_partitioning = false{union})"  # noqa: S608 - paths are quoted


def _day(day: date) -> str:
    return f"date '{day.isoformat()}'"
