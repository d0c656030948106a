"""Rebuilds a table of the dbt project repeatedly in a scratch folder, each time from other source rows.

dbt builds each range of days once. After that, the SQL that it executed runs on DuckDB alone over other files, which
takes a quarter of the time. The lake is neither read nor written.
"""

import json
import os
import queue
import shutil
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import polars as pl

from ml_assets.contracts.dbt_yaml import meta_of
from ml_assets.contracts.periods import DAILY, Calendar
from ml_assets.contracts.sql import identifier
from ml_assets.lake.errors import WarehouseError
from ml_assets.warehouse.dbt_messages import without_values
from ml_assets.warehouse.dbt_package import link_package
from ml_assets.warehouse.dbt_server import RESULTS, Dbt
from ml_assets.warehouse.duckdb_session import connect, literal
from ml_assets.warehouse.nodes import Node, Span, has_personal, inputs_read, joined, with_ancestors
from ml_assets.warehouse.warehouse import Quarantine, calendar_bindings, quarantine_bindings

_HOOKS: Final = ("pre-hook", "post-hook")


@dataclass(frozen=True)
class Reach:
    """What a table depends on: models to build and sources they read, by dbt's unique id.

    Each has the range of periods that is needed; None if it is not partitioned.

    Attributes:
        calendar: of the periods.
    """

    table: str
    models: Mapping[str, Span | None]
    sources: Mapping[str, Span | None]
    calendar: Calendar = DAILY


def reach_of(manifest: Mapping[str, Any], table: str, first: str, last: str, calendar: Calendar = DAILY) -> Reach:
    """Return what building a table for a range of periods needs.

    Each model has only the periods that its readers look back to.

    Args:
        manifest: dbt's manifest.
        table: the model's name. It must be a table by day.
        first: the first period to build.
        last: the last one.
        calendar: of the periods. A look-back reads whole ones.

    Raises:
        WarehouseError: the model does not exist in dbt, or a whole table reads a table by day.
    """
    nodes: dict[str, Node] = {**manifest["nodes"], **manifest["sources"]}
    found = [uid for uid, node in nodes.items() if node["resource_type"] == "model" and node["name"] == table]
    if not found:
        raise WarehouseError(f"the dbt project has no model '{table}'. Prepare its manifest with: ml-assets parse.")
    spans: dict[str, Span | None] = {found[0]: (first, last)}
    for uid in reversed(with_ancestors(nodes, found)):
        for parent, span in inputs_read(nodes, uid, spans[uid], calendar).items():
            spans[parent] = joined(spans.get(parent), span)
    return Reach(
        found[0],
        {uid: span for uid, span in spans.items() if nodes[uid]["resource_type"] == "model"},
        {uid: span for uid, span in spans.items() if nodes[uid]["resource_type"] == "source"},
        calendar,
    )


class Rebuilds:
    """A pool of dbt processes, each started when first needed. Any thread may request a rebuild."""

    def __init__(
        self,
        project_dir: Path,
        manifest: Mapping[str, Any],
        folder: Path,
        *,
        workers: int = 2,
        target: str = "",
        quarantines: Mapping[str, Quarantine] | None = None,
    ) -> None:
        """Prepare the pool.

        Args:
            project_dir: the dbt project.
            manifest: its manifest.
            folder: an empty folder for scratch files.
            workers: how many rebuilds run concurrently.
            target: the profile's target; its default if empty.
            quarantines: the models' quarantines, by unique id.
        """
        self.nodes: dict[str, Node] = {**manifest["nodes"], **manifest["sources"]}
        self.folder = folder
        self.quarantines = quarantine_bindings(self.nodes, quarantines or {}, folder)
        self._statements: dict[str, list[str]] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._free: queue.LifoQueue[Dbt] = queue.LifoQueue()
        link_package(project_dir)
        for _ in range(workers):  # a LIFO queue: single jobs reuse one process
            self._free.put(Dbt(project_dir, target))

    def __enter__(self) -> Self:
        """Start no process yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the started processes."""
        while not self._free.empty():
            self._free.get().close()

    def build(self, reach: Reach, sources: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        """Return the table, built from these rows.

        Args:
            reach: what the table depends on.
            sources: the rows of each source, by unique id, with the columns of its contract.

        Raises:
            WarehouseError: dbt cannot build it.
        """
        import duckdb

        scratch = self.folder / uuid.uuid4().hex
        (scratch / "out").mkdir(parents=True)
        try:
            bindings = self._bindings(reach, sources, scratch)
            days = json.dumps([reach.table, bindings["spans"]])
            with self._locks[days]:
                if days not in self._statements:
                    return self._built(reach, bindings, scratch, days)
            try:
                return self._replayed(reach, bindings, scratch, self._statements[days])
            except duckdb.Error:  # a statement that needs dbt's session; dbt reports the error
                return self._built(reach, bindings, scratch, days)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _built(self, reach: Reach, bindings: Mapping[str, Any], scratch: Path, days: str) -> pl.DataFrame:
        """Return the table as built by dbt, and remember the executed SQL."""
        path = scratch / "bindings.json"
        path.write_text(json.dumps(bindings), encoding="utf-8")
        table, names = self.nodes[reach.table]["name"], [self.nodes[uid]["name"] for uid in reach.models]
        target, output = scratch / "target", list[str]()
        with self._dbt() as dbt:
            command = ["run", "--threads", "1", "--select", *names]
            code = dbt.build(command, bindings=path, target=target, log=output.append)
        if code:
            why = "\n".join(_broken(target / RESULTS) or output[-20:])
            why = without_values(why) if has_personal(self.nodes) else why
            raise WarehouseError(f"{table} cannot be rebuilt in a scratch folder; dbt reports:\n{why}")
        if not any(self.nodes[uid]["config"].get(hook) for uid in reach.models for hook in _HOOKS):
            self._statements[days] = json.loads(Path(bindings["statements"]).read_text(encoding="utf-8"))
        return pl.read_parquet(scratch / "out" / f"{table}.parquet", glob=False)

    def _replayed(
        self, reach: Reach, bindings: Mapping[str, Any], scratch: Path, statements: Sequence[str]
    ) -> pl.DataFrame:
        """Return the table as built by the SQL that dbt executed before."""
        table = self.nodes[reach.table]
        order = [reach.calendar.column, *meta_of(table).get("key", [])]
        files = {name: paths[""] for name, paths in bindings["sources"].items()}
        files |= {f"{name}__released": it["released"] for name, it in self.quarantines.items() if it["released"]}
        with connect() as engine:
            engine.execute(f"set memory_limit = {literal(os.environ.get('ML_ASSETS_DBT_MEMORY', '1GB'))}")
            engine.execute(f"set temp_directory = {literal(scratch / '.spill')}")
            engine.execute("create schema lake")
            for name, path in files.items():
                engine.execute(f"create view lake.{identifier(name)} as from read_parquet({literal(path)})")
            for statement in statements:
                engine.execute(statement)
            relation = f"{identifier(table['schema'])}.{identifier(table.get('alias') or table['name'])}"
            by = ", ".join(identifier(column) for column in order)
            built: pl.DataFrame = engine.sql(f"from {relation} order by {by}").pl()
            return built

    def _bindings(self, reach: Reach, sources: Mapping[str, pl.DataFrame], scratch: Path) -> dict[str, Any]:
        bound = {}
        for uid in reach.sources:
            name = f"{self.nodes[uid]['source_name']}.{self.nodes[uid]['name']}"
            path = scratch / f"{name}.parquet"
            sources[uid].write_parquet(path, compression="lz4")
            bound[name] = {"": str(path)}
        spans = {self.nodes[uid]["name"]: [*span] for uid, span in reach.models.items() if span}
        first, last = spans[self.nodes[reach.table]["name"]]
        return {
            "first": first, "last": last, "spans": spans, "scratch": str(scratch / "out"), "sources": bound,
            "models": {}, "quarantine": self.quarantines, "one_file": True,
            "statements": str(scratch / "statements.json"), **calendar_bindings(reach.calendar),
        }  # fmt: skip

    @contextmanager
    def _dbt(self) -> Iterator[Dbt]:
        dbt = self._free.get()
        try:
            yield dbt
        finally:
            self._free.put(dbt)


def _broken(results: Path) -> list[str]:
    """Return dbt's messages about models that it could not build; empty if it ran none."""
    if not results.exists():
        return []
    found = json.loads(results.read_text(encoding="utf-8"))["results"]
    return [
        f"{it['unique_id'].rpartition('.')[2]}: {it['message']}"
        for it in found
        if it["status"] not in {"success", "skipped"}
    ]
