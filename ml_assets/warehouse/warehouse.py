"""The warehouse resource: one dbt invocation over a range of days, reading from the lake and publishing to it.

dbt builds and tests in a scratch folder. Tables that passed are published afterwards. The tables themselves are defined
in the dbt project.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import JsonValue

from ml_assets.contracts.periods import BY_DAY, DAILY, Calendar
from ml_assets.lake.content import StoredFrame
from ml_assets.lake.days import Days, days_by_asset, gaps_of, merge_days, span_of
from ml_assets.lake.errors import WarehouseError
from ml_assets.lake.grains import grain_parameter
from ml_assets.lake.ledger import Input, StepLedger
from ml_assets.lake.manifest import ROWS_READ, ArtifactRef, Cost, Manifest
from ml_assets.lake.quarantine import QUARANTINE, RELEASED
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake, Origin
from ml_assets.machine.temporary import temporary_folder
from ml_assets.warehouse.dbt_messages import DbtOutput, without_dbts_macros, without_values
from ml_assets.warehouse.dbt_package import link_package
from ml_assets.warehouse.dbt_server import RESULTS, Dbt
from ml_assets.warehouse.nodes import (
    Node,
    Span,
    column_types,
    has_personal,
    inputs_read,
    is_by_day,
    is_gap_allowed,
    joined,
    parents_of,
    periods_back,
    table_name,
    with_ancestors,
)


@dataclass(frozen=True)
class TestResult:
    """The result of a dbt test."""

    unique_id: str
    passed: bool
    is_blocking: bool
    failures: int
    message: str


@dataclass(frozen=True)
class Quarantine:
    """The quarantine of a table: rows that break rules are set aside instead of failing the table.

    Attributes:
        share: the largest share of a day's rows that may be quarantined.
        predicates: by rule, SQL that is true if a row breaks it.
        released: rows that a person released, which pass unchanged.
        releases: the artifacts of released rows, by partition.
    """

    share: float
    predicates: Mapping[str, str]
    released: pl.DataFrame | None = None
    releases: Mapping[str, Sequence[Input]] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, JsonValue]:
        """The settings that decide which rows pass, for manifests."""
        return {"share": self.share, "rules": list(self.predicates)}


@dataclass(frozen=True)
class Build:
    """The result of a dbt invocation.

    Attributes:
        seconds: build time of each model.
        tests: the results of tests.
        failed: dbt's messages about models that failed.
        skipped: models that were skipped because a parent failed.
        scratch: the folder of the files.
        models: the requested models.
        bound: the artifacts that they read, by unique id and day.
        missing: missing days of what they read, by unique id and day, if gaps are allowed.
        quarantines: the models' quarantines, by unique id.
        cost: the total cost since the step began.
        nodes: dbt's nodes and sources, by unique id.
        span: the range of periods; None for whole tables.
        calendar: of the periods.
        published: what was published so far, by unique id and day.
    """

    seconds: Mapping[str, float]
    tests: Sequence[TestResult]
    failed: Mapping[str, str]
    scratch: Path
    models: Sequence[str]
    skipped: Sequence[str] = ()
    bound: Mapping[str, Mapping[str, Input]] = field(default_factory=dict)
    missing: Mapping[str, Mapping[str, Days]] = field(default_factory=dict)
    quarantines: Mapping[str, Quarantine] = field(default_factory=dict)
    cost: Cost | None = None
    nodes: Mapping[str, Node] = field(default_factory=dict)
    span: Span | None = None
    calendar: Calendar = DAILY
    published: dict[str, dict[str, Input]] = field(default_factory=dict)

    def cost_of(self, model: str, partitions: int) -> Cost | None:
        """Return the cost of one partition of a model: the model's share by seconds, divided by its partitions."""
        if self.cost is None:
            return None
        total = sum(self.seconds.values())
        return self.cost.share(partitions, of=self.seconds[model] / total if total else 1 / len(self.seconds))

    def files(self, table: str) -> dict[str, Path]:
        """Return the files of a model or of its quarantine, by day ('' for a whole table)."""
        whole = self.scratch / f"{table}.parquet"
        if whole.exists():
            return {"": whole}
        return {path.stem: path for path in sorted((self.scratch / table).glob("*.parquet"))}

    def publish(
        self, ledger: StepLedger, model: str, *, code_version: str | None
    ) -> tuple[dict[str, Manifest], dict[str, Manifest]]:
        """Publish a model from scratch to the lake, with the versions of its inputs.

        Returns the manifests of the table and of its quarantine, by partition.

        Args:
            ledger: of the step.
            model: unique id of the model. Those that it reads must be published before.
            code_version: dbt's checksum of the model.
        """
        nodes, node = self.nodes, self.nodes[model]
        calendar = self.calendar
        wanted = [""] if self.span is None else calendar.between(*self.span)
        asset = table_name(node)
        available = {
            parent: {**self.bound.get(parent, {}), **self.published.get(parent, {})}
            for parent in parents_of(nodes, model)
        }
        aside = self.quarantines.get(model)

        def origin(key: str, cost: Cost | None) -> Origin:
            inputs = [
                it
                for parent, them in available.items()
                for it in _used(
                    them, key if is_by_day(nodes[parent]) else "", periods_back(node, nodes[parent], calendar), calendar
                )
            ]
            missing = [self.missing.get(model, {}).get(key, {}), *(it.missing_days for it in inputs)]
            return ledger.origin(
                (*inputs, *(aside.releases.get(key, ()) if aside else ())),
                code_version=code_version, seconds=self.seconds[model] / len(wanted), cost=cost,
                parameters={
                    "dbt": model, "types": column_types(node), "quarantine": aside.parameters if aside else None,
                    "allow_gaps": is_gap_allowed(node) or None,
                    **grain_parameter(calendar.grain if key else BY_DAY),
                    ROWS_READ: _rows_read(it for it in inputs if (it.ref.partition or key) == key),
                },
                missing_days=merge_days(missing),
            )  # fmt: skip

        def put(table: str, name: str, cost: Cost | None) -> dict[str, Manifest]:
            files = self.files(table)
            artifacts = {key: (StoredFrame.read(files[key]), origin(key, cost)) for key in wanted}
            return ledger.lake.put_each(name, artifacts)

        cost = self.cost_of(model, len(wanted))
        nothing = None if cost is None else cost.share(1, of=0)
        quarantined = put(f"{node['name']}{QUARANTINE}", f"{asset}{QUARANTINE}", nothing) if aside else {}
        written = put(node["name"], asset, cost)
        self.published[model] = {key: Input.of(made) for key, made in written.items()}
        return written, quarantined


class Warehouse(dg.ConfigurableResource):
    """dbt on an in-memory DuckDB over the lake's files."""

    lake: LakeResource
    project_dir: str
    target: str | None = None
    threads: int = 2

    @contextmanager
    def build(
        self,
        manifest: Mapping[str, Any],
        models: Sequence[str],
        span: Span | None,
        *,
        log: Callable[[str], None],
        quarantines: Mapping[str, Quarantine] | None = None,
        first_keys: Mapping[str, str] | None = None,
        threads: int = 1,
        calendar: Calendar = DAILY,
    ) -> Iterator[Build]:
        """Build and test models (dbt's unique ids) for a range of periods in a scratch folder.

        Args:
            manifest: dbt's manifest.
            models: unique ids.
            span: the range; None for whole tables.
            log: receives dbt's lines.
            quarantines: the quarantines of models that have one, by unique id.
            first_keys: by unique id, the first declared period of a table by day. Earlier ones do not count as missing.
            threads: cores that DuckDB uses for one model.
            calendar: of the periods.

        Raises:
            WarehouseError: days of what they read are missing, or dbt itself failed. Failed models and tests are in
                the result instead.
        """
        ledger = self.lake.ledger()
        nodes: dict[str, Node] = {**manifest["nodes"], **manifest["sources"]}
        refs = _bind(ledger, nodes, models, span, calendar)
        missing = _missing(nodes, models, span, refs, first_keys or {}, calendar=calendar)
        with temporary_folder("dbt") as folder:
            scratch = folder / "out"
            scratch.mkdir()
            aside = {model: it for model, it in (quarantines or {}).items() if model in models}
            bound, files = _fetched(ledger.lake, refs, folder / "lake")
            bindings = _bindings(nodes, files, span, folder) | calendar_bindings(calendar)
            bindings |= {"quarantine": quarantine_bindings(nodes, aside, folder), "threads": threads}
            (folder / "bindings.json").write_text(json.dumps(bindings), encoding="utf-8")
            hides = has_personal(nodes)
            self._run(folder, [nodes[m]["name"] for m in models], DbtOutput(log, hides=hides))
            cost = ledger.meter.take()
            result = _result(nodes, models, folder, scratch, without_values if hides else str)
            yield replace(
                result, bound=bound, missing=missing, quarantines=aside, cost=cost, nodes=nodes, span=span,
                calendar=calendar,
            )  # fmt: skip

    def _run(self, folder: Path, names: Sequence[str], output: DbtOutput) -> None:
        target = folder / "target"
        target.mkdir()
        command = [
            "build", "--select", *names, "--exclude-resource-type", "unit_test", "--indirect-selection", "buildable",
            "--threads", str(self.threads),
        ]  # fmt: skip
        link_package(Path(self.project_dir))
        with Dbt(Path(self.project_dir), self.target) as dbt:
            code = dbt.build(command, bindings=folder / "bindings.json", target=target, log=output)
        if not (target / RESULTS).exists():
            tail = "\n".join(output.lines[-20:])
            raise WarehouseError(f"dbt ended with exit code {code} without results. Its last lines:\n{tail}")


def quarantine_bindings(
    nodes: Mapping[str, Node], quarantines: Mapping[str, Quarantine], folder: Path
) -> dict[str, dict[str, JsonValue]]:
    """Return the quarantine section of the bindings. Released rows are written to files in the run's folder."""
    bindings: dict[str, dict[str, JsonValue]] = {}
    for model, quarantine in quarantines.items():
        name = str(nodes[model]["name"])
        path = folder / f"{name}{RELEASED}.parquet"
        if quarantine.released is not None:
            quarantine.released.write_parquet(path)
        bindings[name] = {
            "share": quarantine.share,
            "rules": dict(quarantine.predicates),
            "released": None if quarantine.released is None else str(path),
        }
    return bindings


def calendar_bindings(calendar: Calendar) -> dict[str, JsonValue]:
    """Return the calendar in the bindings."""
    return {"grain": calendar.grain, "timezone": calendar.timezone}


def _used(inputs: Mapping[str, Input], key: str, look_back: int, calendar: Calendar) -> list[Input]:
    """Return the inputs of a period with its look-back, in periods; all if there is no period."""
    if not key:
        return [*inputs.values()]
    return [inputs[it] for it in calendar.between(calendar.moved(key, -look_back), key) if it in inputs]


def _rows_read(inputs: Iterable[Input]) -> dict[str, JsonValue]:
    """Return the row counts of tables, by asset."""
    found = Counter[str]()
    for it in inputs:
        if it.rows is not None:
            found[it.ref.asset] += it.rows
    return dict(found)


def _bind(
    ledger: StepLedger, nodes: Mapping[str, Node], models: Sequence[str], built: Span | None, calendar: Calendar
) -> dict[str, dict[str, ArtifactRef]]:
    """Return the artifacts that these models read, by unique id and day."""
    reach: dict[str, Span | None] = {}
    for model in models:
        for parent, span in inputs_read(nodes, model, built, calendar).items():
            reach[parent] = joined(reach.get(parent), span)
    for parent in sorted(_tested_against(nodes, models)):
        if parent not in reach and not (built is None and is_by_day(nodes[parent])):
            reach[parent] = built if is_by_day(nodes[parent]) else None
    bound = {}
    for parent, span in reach.items():
        built_here = parent in models
        if span is None:
            keys = [] if built_here else [""]
        else:
            last = calendar.moved(built[0], -1) if built_here and built else span[1]
            keys = calendar.between(span[0], last)
        refs = ledger.newest(table_name(nodes[parent]), keys) if keys else {}
        bound[parent] = refs
    return bound


def _missing(
    nodes: Mapping[str, Node],
    models: Sequence[str],
    span: Span | None,
    bound: Mapping[str, Mapping[str, ArtifactRef]],
    first_keys: Mapping[str, str],
    *,
    calendar: Calendar,
) -> dict[str, dict[str, Days]]:
    """Return the missing days of what models read, by unique id and day, for models that allow gaps.

    Raises:
        WarehouseError: days are missing and gaps are not allowed. dbt would read them as days without rows.
    """
    made = {""} if span is None else {*calendar.between(*span)}
    there = {table_name(nodes[uid]): {*refs, *(made if uid in models else ())} for uid, refs in bound.items()}
    allowed: dict[str, dict[str, Days]] = {}
    refused: dict[str, Days] = {}
    for model in models:
        node = nodes[model]
        found = {
            day: gaps_of(day, _reads(nodes, model, day, first_keys, calendar), there, allow_gaps=is_gap_allowed(node))
            for day in sorted(made)
        }
        allowed[model] = {day: gaps.allowed for day, gaps in found.items() if gaps.allowed}
        if blocking := merge_days(gaps.blocking for gaps in found.values()):
            refused[str(node["name"])] = blocking
    if refused:
        them = span_of(sorted(made))
        listed = "\n".join(f"- {name} reads {days_by_asset(missing, calendar)}" for name, missing in refused.items())
        raise WarehouseError(
            f"inputs of these tables are missing{f', so {them} cannot be built' if them else ''}:\n{listed}\n"
            "Materialize them first. To build a table without the days that it looks back to, declare "
            "`allow_gaps: true` beside `look_back_days`."
        )
    return allowed


def _reads(
    nodes: Mapping[str, Node], model: str, key: str, first_keys: Mapping[str, str], calendar: Calendar
) -> dict[str, list[str]]:
    """Return the partitions that one partition of a model reads, by table, from its first declared one on."""
    found = {}
    for uid, span in inputs_read(nodes, model, (key, key) if key else None, calendar).items():
        if span is None:
            found[table_name(nodes[uid])] = [""]
        else:
            found[table_name(nodes[uid])] = calendar.between(max(span[0], first_keys.get(uid, "")), span[1])
    return found


def _tested_against(nodes: Mapping[str, Node], models: Sequence[str]) -> set[str]:
    """Return what the tests of models read besides them. dbt runs tests whose tables are ancestors of the models."""
    read = {
        parent
        for node in nodes.values()
        if node["resource_type"] == "test" and not {*models}.isdisjoint(node["depends_on"]["nodes"])
        for parent in node["depends_on"]["nodes"]
    }
    return (read & {*with_ancestors(nodes, models)}) - {*models}


def _fetched(
    lake: Lake, bound: Mapping[str, Mapping[str, ArtifactRef]], folder: Path
) -> tuple[dict[str, dict[str, Input]], dict[str, dict[str, str]]]:
    """Return artifacts as inputs, and their files. Files of a remote lake are fetched to the folder.

    DuckDB can read S3 through fsspec, but requests parts of every file again for each model, contract and test. A day
    with its look-back took 58 s against moto's S3, and 9 s with every file fetched once.
    """
    refs = [ref for them in bound.values() for ref in them.values()]
    read = dict(zip(refs, lake.frames_here(refs, folder), strict=True))
    inputs = {uid: {key: Input.of(read[ref][1]) for key, ref in them.items()} for uid, them in bound.items()}
    return inputs, {uid: {key: str(read[ref][0]) for key, ref in them.items()} for uid, them in bound.items()}


def _bindings(
    nodes: Mapping[str, Node],
    files: Mapping[str, Mapping[str, str]],
    span: Span | None,
    folder: Path,
) -> dict[str, Any]:
    """Return the bindings of a run; see `ml_assets.warehouse.dbt_lake`."""
    return {
        "first": span[0] if span else None,
        "last": span[1] if span else None,
        "scratch": str(folder / "out"),
        "sources": {
            f"{nodes[p]['source_name']}.{nodes[p]['name']}": f for p, f in files.items() if p.startswith("source.")
        },
        "models": {nodes[p]["name"]: f for p, f in files.items() if p.startswith("model.")},
    }


def _result(
    nodes: Mapping[str, Node], models: Sequence[str], folder: Path, scratch: Path, shown: Callable[[str], str]
) -> Build:
    """Return dbt's results. Messages are rewritten by `shown`."""
    results = json.loads((folder / "target" / RESULTS).read_text(encoding="utf-8"))["results"]
    tests, failed, skipped, seconds = [], {}, [], {}
    for result in results:
        unique_id, status = result["unique_id"], result["status"]
        if unique_id.startswith("test."):
            if status == "skipped":
                continue
            severity = str(nodes[unique_id]["config"]["severity"]).lower()
            tests.append(
                TestResult(
                    unique_id=unique_id,
                    passed=status in {"pass", "success"},
                    is_blocking=severity == "error",
                    failures=int(result.get("failures") or 0),
                    message=shown(str(result.get("message") or "")),
                )
            )
        elif status == "success":
            seconds[unique_id] = float(result["execution_time"])
        elif status == "skipped":
            skipped.append(unique_id)
        else:
            failed[unique_id] = shown(without_dbts_macros(str(result.get("message") or status)))
    return Build(seconds=seconds, tests=tests, failed=failed, skipped=skipped, scratch=scratch, models=models)
