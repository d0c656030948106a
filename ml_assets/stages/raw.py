"""Raw tables: source rows as received, by day or as a whole table, with every version of a row.

Not here: renaming and cleaning (dbt's staging), and detection of changed files (see `ml_assets.automation.arrivals`).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field, JsonValue, field_validator

from ml_assets.contracts.errors import ContractError, near
from ml_assets.contracts.sql_types import sql_type
from ml_assets.contracts.table import GONE_AT, RECEIVED_AT, TableContract
from ml_assets.declaration.parts import Days
from ml_assets.declaration.tables import RawDeclaration, RawTable
from ml_assets.lake.days import in_rows, span_of
from ml_assets.lake.errors import SourceError
from ml_assets.lake.failed_attempts import RECORD
from ml_assets.lake.manifest import FILES
from ml_assets.lake.quarantine import QUARANTINE
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.landing.day_pattern import DayPattern
from ml_assets.landing.listing import Arrived, file_facts, files_of_days, landed_files, read_arrived
from ml_assets.landing.sources import Source, digest
from ml_assets.landing.time_formats import UNIX_TIMES
from ml_assets.logic.tables.raw import (
    by_day,
    check_of_day,
)
from ml_assets.models.plan import daily, day_range, days_between
from ml_assets.models.pod_tags import pod_tags
from ml_assets.names import IO_MANAGER, MANAGED
from ml_assets.provenance.code import code_version
from ml_assets.stages.asset import column_schema, freshness_policy, quarantine_spec
from ml_assets.stages.checks.contract_rules import check_results, check_specs, reject, rule_specs
from ml_assets.stages.landing import (
    ASIDE,
    ROWS,
    Landed,
    SourceContent,
    day_columns,
    day_of_row,
    expressions,
    land_rows,
    landing_rules,
    other_tables,
    with_day_columns,
)

GROUP = "raw"


class LandingConfig(dg.Config):
    """Run configuration of a landing."""

    received_at: str | None = Field(
        None, description="UTC moment at which the rows count as received, for simulations; now if absent"
    )
    max_row_loss: float | None = Field(
        None, ge=0, le=1, description="share of a partition's rows that may be lost; as declared if absent"
    )

    @field_validator("received_at")
    @classmethod
    def _is_moment(cls, text: str | None) -> str | None:
        if text is not None:
            datetime.fromisoformat(text)
        return text

    def moment(self, now: datetime) -> datetime:
        """Return the moment, naive and in UTC as everywhere in the lake; `now` if none was given."""
        given = now if self.received_at is None else datetime.fromisoformat(self.received_at)
        return (given if given.tzinfo is None else given.astimezone(UTC)).replace(tzinfo=None)


def raw_tables(declaration: RawDeclaration, contracts: Mapping[str, TableContract]) -> list[dg.AssetsDefinition]:
    """Return one asset for each declared source, and one for its quarantine if a share is declared.

    Raises:
        ContractError: a source has no contract in dbt's sources, or a column for the day or with a format is missing or
            has an unsuitable type. All problems are listed.
    """
    known = [name.removeprefix(f"{GROUP}/") for name in contracts if name.startswith(f"{GROUP}/")]
    wrong = [
        f"{declaration.place('tables', name)}: source '{name}' has no contract{near(name, known)}. Add it with columns "
        f"and types to the source '{GROUP}' in dbt_project/models/staging/_sources.yml."
        for name in declaration.tables
        if name not in known
    ]
    wrong += [
        f"{declaration.place('tables', name, *field)}: {problem}; see {contracts[f'{GROUP}/{name}'].where}."
        for name, table in declaration.tables.items()
        if name in known
        for field, problem in _column_problems(table, contracts[f"{GROUP}/{name}"])
    ]
    if wrong:
        raise ContractError("\n".join(wrong))
    return [
        raw_table(declaration, name, table, contracts[f"{GROUP}/{name}"]) for name, table in declaration.tables.items()
    ]


def _column_problems(table: RawTable, contract: TableContract) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the problems of the columns that a declaration names, each with its field."""
    days = () if table.partition_by is None else table.partition_by.columns.items()
    named = [(("partition_by", field), column) for field, column in days]
    named += [(("formats", column), column) for column in table.formats]
    for field, name in named:
        if name not in contract.names:
            yield (
                field,
                (
                    f"table '{contract.name}' has no column '{name}'; expected one of {', '.join(contract.names)}"
                    f"{near(name, contract.names)}"
                ),
            )
            continue
        dtype = contract.column(name).dtype
        is_unix = table.formats.get(name) in UNIX_TIMES
        match field:
            case ("formats", _):
                is_fit = dtype == pl.Datetime or (dtype == pl.Date and not is_unix)
                wanted = "a timestamp" if is_unix else "a date or a timestamp"
            case ("partition_by", "column"):
                is_fit = isinstance(dtype, pl.Date | pl.Datetime | pl.String)
                wanted = "a date, a timestamp or text such as 2024-01-31"
            case _:
                is_fit, wanted = dtype.is_integer(), "a whole number"
        if not is_fit:
            yield field, f"column '{name}' of table '{contract.name}' is {sql_type(dtype)}; expected {wanted}"


def source_of(table: RawTable, contract: TableContract, file: str) -> Source:
    """Return the source file of a raw table, without the columns that landing adds."""
    optional = (RECEIVED_AT, GONE_AT, *expressions(contract))
    return Source(file, contract.schema, table.null_values, optional, table.csv, table.formats, contract.personal)


def newest_day_in(table: RawTable, contract: TableContract, timezone: str) -> date | None:
    """Return the newest day with rows in the single file of a raw table by day; None if there is none."""
    if table.partition_by is None:
        return None
    source = source_of(table, contract, str(table.file))
    rows = with_day_columns(source.frame(source.content()), table.partition_by, contract)
    newest: date | None = rows.select(day_of_row(table.partition_by, contract, timezone).max()).item()
    return newest


def raw_table(declaration: RawDeclaration, name: str, table: RawTable, contract: TableContract) -> dg.AssetsDefinition:
    """Return the asset that lands one source, with its quarantine if a share is declared."""
    key = dg.AssetKey([GROUP, name])

    def land(context: dg.AssetExecutionContext, config: LandingConfig, ml_assets_lake: LakeResource) -> Iterator[Any]:
        days = day_range(context) if table.is_by_day else None
        opened = ml_assets_lake.open()
        # This precedes all reads, so that a publication by another run is noticed.
        before = _last_numbers(opened, key, context.partition_keys if days else [""])
        came = _read_source(opened, key, table, contract, days, declared=declaration.days)
        landed = land_rows(
            opened, key, table, contract, came=came, at=config.moment(opened.now()),
            max_row_loss=table.max_row_loss if config.max_row_loss is None else config.max_row_loss,
        )  # fmt: skip
        yield from check_results(
            landed.audit.report, key, landed.audit.counts, partitions=context.partition_keys if days else ()
        )
        _refuse(opened, key, table, landed, run_id=context.run.run_id)
        for line in (*came.warnings, *landed.warnings):
            context.log.warning(f"{name}: {line}")
        for out, parts in landed.parts.items():
            opened.note(**came.facts, **landed.notes)
            opened.note_reads(landed.inputs)
            opened.note_after(before[out])
            yield dg.Output(parts if days else parts[""], out, metadata=landed.facts if out == ROWS else {})

    outs = _outs(declaration, key, table, contract, code=code_version([land]))
    return dg.multi_asset(
        name=key.to_python_identifier(),
        outs=outs,
        internal_asset_deps={ASIDE: {key}} if ASIDE in outs else {},
        check_specs=[*check_specs(contract, key), *rule_specs(landing_rules(table), key)],
        partitions_def=daily(declaration.days) if table.is_by_day else None,
        backfill_policy=dg.BackfillPolicy.single_run() if table.is_by_day else None,
        op_tags=pod_tags(declaration.compute),
        hooks={RECORD},
    )(land)


def _last_numbers(lake: Lake, key: dg.AssetKey, partitions: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return, by output, the number of each partition's last publication."""
    asset = key.to_user_string()
    names = {ROWS: asset, ASIDE: f"{asset}{QUARANTINE}"}
    return {out: lake.last_numbers(name, partitions) for out, name in names.items()}


def _outs(
    declaration: RawDeclaration, key: dg.AssetKey, table: RawTable, contract: TableContract, *, code: str
) -> dict[str, dg.AssetOut]:
    common: dict[str, Any] = {
        "group_name": GROUP,
        "owners": [declaration.owner] if declaration.owner else None,
        "kinds": {"parquet", "polars"},
        "code_version": code,
        "tags": dict([MANAGED]),
    }
    parameters = {
        "file": table.file or table.files,
        "partition_by": None if table.partition_by is None else table.partition_by.model_dump(),
        "reading": table.model_dump(mode="json", include={"null_values", "csv", "formats"}, exclude_defaults=True),
        "expressions": expressions(contract),
        "types": {column.name: str(column.dtype) for column in contract.columns},
        "contract": contract.rules_digest,
        "nan_is_missing": [column.name for column in contract.columns if column.is_nan_missing] or None,
        "quarantine": None
        if table.quarantine is None
        else {"share": table.quarantine, "rules": [rule.name for rule in contract.rules if rule.is_row_rule]},
    }
    rows = dg.AssetSpec(
        key,
        description=table.description or contract.description,
        metadata={
            "dagster/column_schema": column_schema(contract),
            "ml_assets/parameters": dg.MetadataValue.json(parameters),
        },
        freshness_policy=freshness_policy(declaration.freshness),
        **common,
    )
    specs = {ROWS: rows} if table.quarantine is None else {ROWS: rows, ASIDE: quarantine_spec(key, contract, **common)}
    return {name: dg.AssetOut.from_spec(spec, io_manager_key=IO_MANAGER) for name, spec in specs.items()}


def _read_source(
    lake: Lake,
    key: dg.AssetKey,
    table: RawTable,
    contract: TableContract,
    days: tuple[date, date] | None,
    *,
    declared: Days,
) -> SourceContent:
    """Read a source: one file, split by day if it has days, or the files of the requested days."""
    if table.files is not None and days is not None:
        return _from_files(lake, key, table, contract, days_between(*days), timezone=declared.timezone)
    source = source_of(table, contract, str(table.file))
    content = source.content()
    facts: dict[str, JsonValue] = {"source": digest(content)}
    rows = source.frame(content)
    if table.partition_by is None or days is None:
        return SourceContent({"": rows}, facts)
    cut = by_day(
        with_day_columns(rows, table.partition_by, contract),
        day_of_row(table.partition_by, contract, declared.timezone),
        first=days[0],
        last=days[1],
        declared=(declared.first, declared.last),
        personal=contract.personal,
    )
    parts = {day: part.select(rows.columns) for day, part in cut.parts.items()}
    return SourceContent(parts, facts, cut.outside, rows.height)


def _from_files(
    lake: Lake, key: dg.AssetKey, table: RawTable, contract: TableContract, days: Sequence[date], *, timezone: str
) -> SourceContent:
    """Read the files of some days.

    Raises:
        SourceError: a day has no file and was never landed, or a file cannot be read.
        DataError: a file contains rows of another day.
    """
    pattern, asset = DayPattern.of(str(table.files)), key.to_user_string()
    found = files_of_days(pattern, days, lake.access)
    absent = [str(day) for day in days if day not in found]
    standing = lake.newest(asset, absent) if absent else {}
    lacking = [day for day in absent if day not in standing or not found]
    if lacking:
        raise SourceError(
            f"there is no file of {' and '.join(span_of(row) for row in in_rows(lacking))} for {asset}; expected "
            f"{pattern.text}. Land the other days until it arrives, or correct 'files' in the declaration."
        )
    rows: dict[str, pl.DataFrame] = {}
    facts: dict[str, list[JsonValue]] = {}
    for day, files in found.items():
        rows[str(day)], facts[str(day)] = _read_day(
            lake, pattern, table, contract, day=day, files=files, timezone=timezone
        )
    source = hashlib.blake2b(json.dumps(facts).encode(), digest_size=16, usedforsecurity=False).hexdigest()
    for part, ref in standing.items():
        facts[part] = [dict(it) for it in landed_files(lake.manifest(ref))]  # the same file may be read again
    empty = next(iter(rows.values())).clear()
    return SourceContent(
        rows={str(day): rows.get(str(day), empty) for day in days},
        facts={"source": source, FILES: {day: facts.get(day, []) for day in map(str, days)}},
        absent=absent,
        warnings=[
            f"{len(absent)} of {len(days)} days have no file, the first is {day}; expected {pattern.text}. Their "
            "landed rows stay in the lake."
            for day in absent[:1]
        ],
    )


def _read_day(
    lake: Lake,
    pattern: DayPattern,
    table: RawTable,
    contract: TableContract,
    *,
    day: date,
    files: Sequence[Arrived],
    timezone: str,
) -> tuple[pl.DataFrame, list[JsonValue]]:
    """Return the rows of a day's files in the order of their names, and the facts of each file for the manifest."""
    frames: list[pl.DataFrame] = []
    facts: list[JsonValue] = []
    by = day_columns(table, contract)
    for arrived in files:
        where = f"{pattern.root}/{arrived.name}"
        data = read_arrived(pattern, arrived, lake.access)
        frame = source_of(table, contract, where).frame(data)
        if by is not None:
            dated = with_day_columns(frame, by, contract)
            check_of_day(dated, day_of_row(by, contract, timezone), day, where=where, personal=contract.personal)
        if frames and {*frame.columns} != {*frames[0].columns}:
            raise SourceError(
                f"source file {where} has the columns {frame.columns}, but {files[0].name} of the same day has "
                f"{frames[0].columns}; expected the same ones. Correct the files."
            )
        frames.append(frame.select(frames[0].columns) if frames else frame)
        facts.append(file_facts(arrived, data))
    return pl.concat(frames), facts


def _refuse(lake: Lake, key: dg.AssetKey, table: RawTable, landed: Landed, *, run_id: str) -> None:
    """Store the days that a blocking rule rejects for inspection, and fail.

    Raises:
        ContractError: there are such days.
    """
    seen = landed.audit
    if not seen.report.blocking:
        return
    days = {part: rows for part, rows in landed.parts[ROWS].items() if not seen.refused or part in seen.refused}
    others = other_tables(lake, seen.report.contract)
    reject(lake, key, days, seen.report, run_id=run_id, inputs=tuple(landed.inputs), others=others)
    raise ContractError(seen.refusal(key.to_user_string(), share=table.quarantine))
