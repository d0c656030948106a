"""Raw tables: source rows as received, by day or as a whole table, with every version of a row.

Not here: reading a source (see `ml_assets.stages.raw_source`), and renaming and cleaning (dbt's staging).
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field, field_validator

from ml_assets.contracts.errors import ContractError, near
from ml_assets.contracts.periods import BY_HOUR, Calendar
from ml_assets.contracts.row_sql import RowSql, SqlProblems, own_columns, problem_clause
from ml_assets.contracts.sql import sql_type
from ml_assets.contracts.table import TableContract
from ml_assets.declaration.tables import RawDeclaration, RawTable
from ml_assets.lake.failed_attempts import RECORD
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.partitions import key_range
from ml_assets.lake.quarantine import QUARANTINE
from ml_assets.lake.resource import LakeResource
from ml_assets.landing.number_formats import is_number_format
from ml_assets.landing.row_sql import sql_problems
from ml_assets.landing.time_formats import UNIX_TIMES
from ml_assets.logic.tables.raw import dtype_of_period
from ml_assets.models.plan import partitions_over
from ml_assets.models.pod_tags import pod_tags
from ml_assets.names import IO_MANAGER, MANAGED
from ml_assets.provenance.code import code_version
from ml_assets.stages.asset import column_schema, freshness_policy, quarantine_spec
from ml_assets.stages.checks.contract_rules import check_results, check_specs, reject, rule_specs
from ml_assets.stages.landing import ASIDE, ROWS, Landed, land_rows, other_tables
from ml_assets.stages.raw_source import GROUP, RawSource


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


def raw_tables(
    declaration: RawDeclaration,
    contracts: Mapping[str, TableContract],
    *,
    sql_problems: SqlProblems = sql_problems,
) -> list[dg.AssetsDefinition]:
    """Return one asset for each declared source, and one for its quarantine if a share is declared.

    `sql_problems` returns what is wrong with each declared expression over the rows of a source.

    Raises:
        ContractError: a source has no contract in dbt's sources, a column for the day or with a format is missing or
            has an unsuitable type, or the SQL for the day is not valid. All problems are listed.
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
        for field, problem in _column_problems(table, contracts[f"{GROUP}/{name}"], declaration.days.calendar)
    ]
    wrong += _sql_problems(declaration, {name: contracts[f"{GROUP}/{name}"] for name in known}, sql_problems)
    if wrong:
        raise ContractError("\n".join(wrong))
    return [
        _raw_table(declaration, RawSource(name, table, contracts[f"{GROUP}/{name}"], declaration.days))
        for name, table in declaration.tables.items()
    ]


def _column_problems(
    table: RawTable, contract: TableContract, calendar: Calendar
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the problems of the columns that a declaration names, each with its field."""
    days = () if table.partition_by is None else table.partition_by.columns.items()
    named: list[tuple[tuple[str, ...], str]] = [(("partition_by", field), column) for field, column in days]
    named += [(("formats", column), column) for column in table.formats]
    named += [(("row_key",), table.row_key)] if table.row_key is not None else []
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
            case ("formats", _) if is_number_format(table.formats.get(name)):
                is_fit, wanted = dtype.is_numeric(), "a number"
            case ("formats", _):
                is_fit = dtype == pl.Datetime or (dtype == pl.Date and not is_unix)
                wanted = "a timestamp" if is_unix else "a date or a timestamp"
            case ("partition_by", "column") if calendar.grain == BY_HOUR:
                is_fit, wanted = dtype == dtype_of_period(calendar), "a timestamp, because the days have grain 'hour'"
            case ("partition_by", "column"):
                is_fit = isinstance(dtype, pl.Date | pl.Datetime | pl.String)
                wanted = "a date, a timestamp or text such as 2024-01-31"
            case ("row_key",):
                is_fit = dtype == pl.String and contract.column(name).expression is None
                wanted = "a text that the contract does not compute"
            case _:
                is_fit, wanted = dtype.is_integer(), "a whole number"
        if not is_fit:
            yield field, f"column '{name}' of table '{contract.name}' is {sql_type(dtype)}; expected {wanted}"


def _sql_problems(
    declaration: RawDeclaration, contracts: Mapping[str, TableContract], sql_problems: SqlProblems
) -> Iterator[str]:
    """Yield the problems of the SQL that states the day of a row."""
    found: list[tuple[str, RowSql]] = []
    dtype = dtype_of_period(declaration.days.calendar)
    for name, table in declaration.tables.items():
        if table.partition_by is not None and table.partition_by.sql is not None and name in contracts:
            columns = {it: dtype for it, dtype in own_columns(contracts[name]).items() if it != table.row_key}
            found.append((name, RowSql("the SQL", name, table.partition_by.sql, columns, dtype)))
    for (name, one), problem in zip(found, sql_problems([one for _, one in found]), strict=True):
        if problem is not None:
            place = declaration.place("tables", name, "partition_by", "sql")
            clause = problem_clause(one, problem, contracts[name])
            yield f"{place}: {one.what} {clause}; see {contracts[name].where}."


def _raw_table(declaration: RawDeclaration, source: RawSource) -> dg.AssetsDefinition:
    """Return the asset that lands one source, with its quarantine if a share is declared."""
    key, table, is_by_day = source.key, source.table, source.table.is_by_day

    def land(context: dg.AssetExecutionContext, config: LandingConfig, ml_assets_lake: LakeResource) -> Iterator[Any]:
        ledger, keys = ml_assets_lake.ledger(), context.partition_keys if is_by_day else [""]
        # This precedes all reads, so that a publication by another run is noticed.
        for asset in (source.asset, f"{source.asset}{QUARANTINE}"):
            ledger.base_on(asset, ledger.lake.last_numbers(asset, keys))
        came = source.read(ledger.lake, key_range(context) if is_by_day else None)
        loss = table.max_row_loss if config.max_row_loss is None else config.max_row_loss
        landed = land_rows(ledger.lake, source, came, at=config.moment(ledger.now()), max_row_loss=loss)
        audit = landed.audit
        yield from check_results(audit.report, key, audit.counts, partitions=keys if is_by_day else ())
        _refuse(ledger, source, landed)
        for line in (*came.warnings, *landed.warnings):
            context.log.warning(f"{source.name}: {line}")
        ledger.note(**came.facts, **landed.notes)
        ledger.use(landed.inputs)
        for out, parts in landed.parts.items():
            yield dg.Output(parts if is_by_day else parts[""], out, metadata=landed.facts if out == ROWS else {})

    outs = _outs(declaration, source, code=code_version([land]))
    return dg.multi_asset(
        name=key.to_python_identifier(),
        outs=outs,
        internal_asset_deps={ASIDE: {key}} if ASIDE in outs else {},
        check_specs=[*check_specs(source.contract, key), *rule_specs(source.landing_rules, key)],
        partitions_def=partitions_over(declaration.days) if is_by_day else None,
        backfill_policy=dg.BackfillPolicy.single_run() if is_by_day else None,
        op_tags=pod_tags(declaration.compute),
        hooks={RECORD},
    )(land)


def _outs(declaration: RawDeclaration, source: RawSource, *, code: str) -> dict[str, dg.AssetOut]:
    key, table, contract = source.key, source.table, source.contract
    common: dict[str, Any] = {
        "group_name": GROUP,
        "owners": [declaration.owner] if declaration.owner else None,
        "kinds": {"parquet", "polars"},
        "code_version": code,
        "tags": dict([MANAGED]),
    }
    parameters = {
        "file": table.file or table.files,
        "partition_by": _by(table),
        "reading": table.model_dump(
            mode="json", include={"null_values", "csv", "excel", "format", "formats"}, exclude_defaults=True
        ),
        **({} if table.row_key is None else {"row_key": table.row_key}),
        "expressions": source.expressions,
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


def _by(table: RawTable) -> dict[str, str | None] | None:
    """Return what states the day of a row. `sql` is left out if unset, so that it changes no older landing."""
    by = table.partition_by
    return None if by is None else by.model_dump(exclude={"sql"} if by.sql is None else set())


def _refuse(ledger: StepLedger, source: RawSource, landed: Landed) -> None:
    """Store the days that a blocking rule rejects for inspection, and fail.

    Raises:
        ContractError: there are such days.
    """
    seen = landed.audit
    if not seen.report.blocking:
        return
    days = {part: rows for part, rows in landed.parts[ROWS].items() if not seen.refused or part in seen.refused}
    others = other_tables(ledger.lake, source.contract)
    reject(ledger, source.key, days, seen.report, inputs=landed.inputs, others=others)
    raise ContractError(seen.refusal(source.asset, share=source.table.quarantine))
