"""The dbt-duckdb plugin: DuckDB reads the lake's Parquet files, and each model is written as one file per day.

Not here: which files a run may read, and publishing its results (see `ml_assets.warehouse.warehouse`).

dbt loads the plugin by name: `plugins: [{module: ml_assets.warehouse.dbt_lake, alias: lake}]` in
`dbt_project/profiles.yml`. A JSON file, whose path is in `ML_ASSETS_DBT_BINDINGS`, lists what a run may read and where
it writes:

    {"first": "2013-01-01", "last": "2013-01-31",            # keys of periods; both null if only whole tables are built
     "grain": "day", "timezone": "UTC",                      # of the periods, each with a file; optional
     "spans": {"stg_orders": ["2012-12-31", "2013-01-31"]},  # models with a range of their own; optional
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

import itertools
import json
import os
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.adapters.dbt import DbtRuntimeError
from ml_assets.adapters.dbt_duckdb import BasePlugin, DuckDBCredentials, TargetConfig
from ml_assets.contracts.days import DAY
from ml_assets.contracts.periods import BY_DAY, BY_HOUR, DAILY, HOUR, Calendar
from ml_assets.contracts.quarantine import too_many_broken
from ml_assets.contracts.sql import identifier
from ml_assets.contracts.words import counted
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

    span: tuple[str, str] | None
    scratch: Path
    sources: Mapping[str, Mapping[str, str]]
    models: Mapping[str, Mapping[str, str]]
    spans: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    quarantine: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    one_file: bool = False
    threads: int = 1
    statements: Path | None = None
    calendar: Calendar = DAILY

    def keys_of(self, model: str) -> list[str]:
        """The periods that a model is built for: its own range, or else the run's; empty if there is none."""
        span = self.spans.get(model, self.span)
        return [] if span is None else self.calendar.between(*span)


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
        calendar = Calendar(content.get("grain", BY_DAY), content.get("timezone", DAILY.timezone))
        ends = (content.get("first"), content.get("last"))
        found = Bindings(
            span=None if None in ends else ends,
            scratch=Path(content["scratch"]),
            sources=content["sources"],
            models=content["models"],
            spans={model: (first, last) for model, (first, last) in content.get("spans", {}).items()},
            quarantine=content.get("quarantine", {}),
            one_file=bool(content.get("one_file", False)),
            threads=int(content.get("threads", 1)),
            calendar=calendar,
            statements=Path(content["statements"]) if content.get("statements") else None,
        )
        for key in (*filter(None, ends), *itertools.chain(*found.spans.values())):
            calendar.first_day(key)  # a key that is not valid is an error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DbtRuntimeError(
            f"the bindings {path} (from {VARIABLE}) cannot be used: {type(error).__name__}: {error}. "
            "Expected JSON as ml_assets/warehouse/dbt_lake.py describes it."
        ) from error
    if (ends[0] is None) != (ends[1] is None):
        raise DbtRuntimeError(f"the bindings {path} contain only one of 'first' and 'last'; expected both, or neither.")
    if found.span is not None and found.span[0] > found.span[1]:
        raise DbtRuntimeError(f"the bindings {path} end on {found.span[1]}, before they begin on {found.span[0]}.")
    upside_down = [model for model, (first, last) in found.spans.items() if first > last]
    if upside_down:
        raise DbtRuntimeError(f"the bindings {path} give models a range that ends before it begins: {upside_down}.")
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
        conn.execute(
            "create table lake.run (model varchar, first_day date, last_day date, begin varchar, until varchar)"
        )
        calendar = self.bindings.calendar
        for model, span in [(None, self.bindings.span), *self.bindings.spans.items()]:
            days = (None, None) if span is None else (calendar.first_day(span[0]), calendar.last_day(span[1]))
            ends = (None, None) if span is None else calendar.ends_sql(*span)
            conn.execute("insert into lake.run values (?, ?, ?, ?, ?)", [model, *days, *ends])
        conn.execute("create table lake.calendar (period_column varchar)")
        conn.execute("insert into lake.calendar values (?)", [calendar.column])
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
            keys = self._keys_of(cursor, unsplit or built, model) if config["is_by_day"] else None
            if unsplit:
                self._quarantine(cursor, unsplit, model, keys, key)
                # Including released rows: the contract's constraints were checked on the other rows.
                columns = "select * exclude (broken_rules, __is_aside)"
                built = f"({columns} from {unsplit} where not __is_aside)"
            if self.bindings.statements is not None:
                view = f"create or replace view {config['view']} as select * from {built}"  # noqa: S608 - dbt's own relation
                self.executed += [*filter(None, config["statements"]), view]
                self.bindings.statements.write_text(json.dumps(self.executed), encoding="utf-8")
            written = self._store(cursor, built, model, keys, key)
            files = {**self.bindings.models.get(model, {}), **written} if keys else written
            cursor.execute(f"create or replace view {config['view']} as {_read(files)}")
        finally:
            cursor.close()

    def _keys_of(self, cursor: "DuckDBPyConnection", table: str, model: str) -> list[str]:
        keys = self.bindings.keys_of(model)
        if not keys:
            raise DbtRuntimeError(
                f"model '{model}' is built by day, but the run's bindings contain no 'first' and 'last'. "
                "Pass the days of the run, or exclude the model."
            )
        self._check_days(cursor, table, model, keys)
        return keys

    def _store(
        self, cursor: "DuckDBPyConnection", table: str, name: str, keys: list[str] | None, order: list[str]
    ) -> dict[str, str]:
        """Write rows to scratch, one file per period if there are any, and return the files."""
        calendar = self.bindings.calendar
        order = order if keys is None else [calendar.column, *order]
        if keys is None or self.bindings.one_file:
            path = self.bindings.scratch / f"{name}.parquet"
            _write(_ordered(cursor, table, order, "true"), path)
            return {"": str(path)}
        folder = self.bindings.scratch / name
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(_WRITERS) as writers:
            at_once = max(1, 24 * _DAYS_AT_ONCE // calendar.shortest_hours)
            for first in range(0, len(keys), at_once):
                block = keys[first : first + at_once]
                where = calendar.rows_sql(block[0], block[-1])
                counts = cursor.execute(
                    f"select {calendar.key_sql()}, count(*) from {table} where {where} group by 1"  # noqa: S608 - as above
                ).fetchall()
                pieces = _cut(_ordered(cursor, table, order, where), block, dict(counts))
                for _ in writers.map(lambda piece: _write(piece[1], folder / f"{piece[0]}.parquet"), pieces):
                    pass
        return {key: str(folder / f"{key}.parquet") for key in keys}

    def _quarantine(
        self, cursor: "DuckDBPyConnection", unsplit: str, model: str, keys: list[str] | None, order: list[str]
    ) -> None:
        """Write the rows that break rules beside the table. If a day has too many, write all its rows and raise.

        Raises:
            DbtRuntimeError: more rows than the declared share break rules.
        """
        share = float(self.bindings.quarantine[model]["share"])
        of = "''" if keys is None else self.bindings.calendar.key_sql()
        over = cursor.execute(
            f"select {of}, avg(cast(__is_aside as double)) from {unsplit} group by 1 "  # noqa: S608 - dbt's own relation
            f"having avg(cast(__is_aside as double)) > {share} order by 1"
        ).fetchall()
        if not over:
            aside = f"(select * exclude (__is_aside) from {unsplit} where __is_aside)"  # noqa: S608 - as above
            self._store(cursor, aside, f"{model}__quarantine", keys, order)
            return
        everything = f"(select * exclude (__is_aside) from {unsplit})"  # noqa: S608 - as above
        whole: list[list[str] | None] = [None]
        for refused in whole if keys is None else [[key] for key, _ in over]:
            self._store(cursor, everything, f"{model}__rejected", refused, order)
        raise DbtRuntimeError("\n".join(too_many_broken(part, share, day) for day, part in over))

    def _check_days(self, cursor: "DuckDBPyConnection", built: str, model: str, keys: list[str]) -> None:
        calendar = self.bindings.calendar
        if calendar.grain == BY_HOUR:
            self._check_hours(cursor, built, model)
        column, outside = calendar.column, f"({calendar.rows_sql(keys[0], keys[-1])}) is not true"
        outsiders = cursor.execute(
            f"select {column}, count(*) from {built} where {outside} group by 1 order by 1 nulls first"  # noqa: S608 - dbt's own relation and dates
        ).fetchall()
        if outsiders:
            count = sum(rows for _, rows in outsiders)
            shown = ", ".join(f"{begin or f'no {column}'} ({rows} rows)" for begin, rows in outsiders[:3])
            first = calendar.begin(keys[0]) if calendar.grain == BY_HOUR else calendar.first_day(keys[0])
            last = calendar.begin(keys[-1]) if calendar.grain == BY_HOUR else calendar.last_day(keys[-1])
            raise DbtRuntimeError(
                f"{count} rows of model '{model}' are outside the run's {column}s {first} to {last}: {shown}. "
                f"Expected every row's '{column}' within them. Filter on in_run() in the model, or "
                f"correct the file of the {column} that contains the row; nothing of '{model}' was written."
            )

    def _check_hours(self, cursor: "DuckDBPyConnection", built: str, model: str) -> None:
        uneven = cursor.execute(
            f"select count(*), min({HOUR}) from {built} where {HOUR} <> date_trunc('hour', {HOUR})"  # noqa: S608 - dbt's own relation
        ).fetchone()
        if uneven and uneven[0]:
            raise DbtRuntimeError(
                f"{counted(uneven[0], 'row')} of model '{model}' {'has' if uneven[0] == 1 else 'have'} an '{HOUR}' "
                f"that is not the begin of an hour, such as {uneven[1]}; expected a timestamp in UTC such as "
                f"{uneven[1]:%Y-%m-%d %H}:00:00. Select the column '{HOUR}' of the raw table, or date_trunc('hour', "
                f"...) of it; nothing of '{model}' was written."
            )
        right, zone = self.bindings.calendar.day_sql(), self.bindings.calendar.timezone
        others = cursor.execute(
            f"select {DAY}, {HOUR}, {right} from {built} where {DAY} <> {right} order by 2"  # noqa: S608 - dbt's own relation
        ).fetchall()
        if others:
            day, hour, expected = others[0]
            raise DbtRuntimeError(
                f"{counted(len(others), 'row')} of model '{model}' {'has' if len(others) == 1 else 'have'} a '{DAY}' "
                f"that is not the one of '{HOUR}' in the declared time zone {zone}, such as {day} at {hour} UTC; "
                f"expected {expected}. Compute it as {right}; nothing of '{model}' was written."
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


def _cut(rows: "pa.Table", keys: list[str], counts: Mapping[str, int]) -> list[tuple[str, "pa.Table"]]:
    """Return the rows of every period, including empty ones. The input is ordered by period."""
    pieces, start = [], 0
    for key in keys:
        pieces.append((key, rows.slice(start, counts.get(key, 0))))
        start += counts.get(key, 0)
    return pieces


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
