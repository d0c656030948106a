"""Builds the asset of a stage, and converts contracts and freshness to Dagster's types."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import CodeType
from typing import Any

import dagster as dg
import polars as pl
from pydantic import BaseModel, JsonValue

from ml_assets.contracts.checking import BROKEN_RULES
from ml_assets.contracts.periods import Calendar
from ml_assets.contracts.table import TableContract
from ml_assets.dagster_storage.code_versions import joined_code
from ml_assets.declaration.freshness import Freshness
from ml_assets.declaration.parts import Stage
from ml_assets.lake.days import ALLOW_GAPS
from ml_assets.lake.failed_attempts import RECORD
from ml_assets.models.plan import ModelPlan, quarantine_key
from ml_assets.models.pod_tags import pod_tags
from ml_assets.names import IO_MANAGER, MANAGED
from ml_assets.provenance.code import code_version


def stage(
    plan: ModelPlan,
    name: Stage,
    body: Callable[..., Any] | Sequence[Callable[..., Any]],
    *,
    kinds: set[str],
    by_day: bool = False,
    named: str | None = None,
    columns: TableContract | None = None,
    parameters: Mapping[str, Any] | None = None,
    **options: Any,  # noqa: ANN401 - passed on to `dg.asset` as they are
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Return `dg.asset` for one stage of one model.

    Args:
        plan: the model.
        name: the stage, whose resources and freshness are declared. It is also the name of the asset.
        body: the pure function or functions that do the work. Their code and that of the asset make up its code
            version, followed by a digest of the training code if it uses a champion.
        kinds: the tools that it uses, for the UI.
        by_day: whether it has one artifact a day. Such runs share the model's pool, so that a long backfill does not
            delay trainings.
        named: another name of the asset.
        columns: the contract of its content, for the catalog.
        parameters: declared values that change the result, for the manifest.
        **options: other arguments of `dg.asset`: `ins`, `deps`, `check_specs`, `metadata`.
    """
    declaration = plan.declaration
    given = {key: _plain(value) for key, value in (parameters or {}).items()}
    metadata = {"ml_assets/parameters": dg.MetadataValue.json(given), **options.pop("metadata", {})}
    if by_day:
        metadata[ALLOW_GAPS] = declaration.allow_gaps
    if columns is not None:
        metadata["dagster/column_schema"] = column_schema(columns)

    def decorate(function: Callable[..., Any]) -> dg.AssetsDefinition:
        description = _ready(function)
        return dg.asset(
            key=plan.asset(named or name),
            group_name=plan.name,
            description=description,
            kinds=kinds,
            owners=[declaration.owner] if declaration.owner else None,
            code_version=joined_code(
                code_version([*(body if isinstance(body, Sequence) else [body]), function, *plan.own_functions(name)]),
                plan.code_behind,
            ),
            partitions_def=plan.partitions if by_day else None,
            backfill_policy=_backfill_policy(declaration.days_per_run, plan.calendar) if by_day else None,
            pool=plan.name if by_day else None,
            hooks={RECORD},
            metadata=metadata,
            op_tags=pod_tags(declaration.compute.get(name)),
            freshness_policy=freshness_policy(declaration.freshness.get(name)),
            io_manager_key=IO_MANAGER,
            tags=dict([MANAGED]),
            **options,
        )(function)

    return decorate


def _backfill_policy(days_per_run: int | None, calendar: Calendar) -> dg.BackfillPolicy:
    """Return how a backfill over days is split into runs, of whole periods."""
    if days_per_run is None:
        return dg.BackfillPolicy.single_run()
    return dg.BackfillPolicy.multi_run(calendar.periods_in(days_per_run))


_SIGNATURES: dict[CodeType, inspect.Signature] = {}


def _ready(function: Callable[..., Any]) -> str:
    """Return a stage's docstring without letting Dagster inspect the function for every model.

    Dagster requests the signature of each asset's function 18 times and parses its docstring for descriptions of
    inputs. With 500 models of 12 stages, that is a fifth of the loading time.
    """
    description = inspect.cleandoc(function.__doc__ or "")
    function.__doc__ = None
    code = function.__code__
    if code not in _SIGNATURES:
        _SIGNATURES[code] = inspect.signature(function)
    function.__signature__ = _SIGNATURES[code]  # type: ignore[attr-defined]
    return description


def _plain(value: object) -> JsonValue:
    """Return a value in JSON's types."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return str(value)


@functools.cache
def column_schema(contract: TableContract) -> dg.TableSchema:
    """Return a contract in the form of Dagster's catalog, cached for all models on a table."""
    shown_elsewhere = {"columns", "not_null"}  # shown as the list of columns and as `nullable`
    others: dict[str, list[str]] = {}
    for rule in contract.rules:
        if rule.kind not in shown_elsewhere and not (rule.kind == "unique" and len(rule.columns) == 1):
            others.setdefault(rule.columns[0] if len(rule.columns) == 1 else "", []).append(rule.name)
    unique = {rule.columns for rule in contract.rules if rule.kind == "unique"}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=str(column.dtype.base_type()),  # Datetime without unit and zone
                description=column.description or None,
                constraints=dg.TableColumnConstraints(
                    nullable=column.is_nullable, unique=(column.name,) in unique, other=others.get(column.name)
                ),
                tags={
                    **({"role": column.role} if column.role else {}),
                    **({"unit": column.unit} if column.unit else {}),
                    **({"categorical": ""} if column.is_categorical else {}),
                    **({"pii": ""} if column.is_pii else {}),
                },
            )
            for column in contract.columns
        ],
        constraints=dg.TableConstraints(other=others.get("", [])),
    )


def freshness_policy(freshness: Freshness | None) -> dg.FreshnessPolicy | None:
    """Return Dagster's policy for a declared freshness; none if only the age of the data is limited."""
    if freshness is None:
        return None
    if freshness.deadline is not None and freshness.within_minutes is not None:
        return dg.FreshnessPolicy.cron(
            freshness.deadline,
            lower_bound_delta=timedelta(minutes=freshness.within_minutes),
            timezone=freshness.timezone or "UTC",
        )
    if freshness.fail_hours is None:
        return None
    return dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=freshness.fail_hours),
        warn_window=None if freshness.warn_hours is None else timedelta(hours=freshness.warn_hours),
    )


def as_table(rows: pl.DataFrame) -> dg.TableMetadataValue:
    """Return rows as a table for the UI, with six significant digits."""
    return dg.MetadataValue.table(
        [dg.TableRecord({name: _cell(it) for name, it in row.items()}) for row in rows.iter_rows(named=True)],
        dg.TableSchema(columns=[dg.TableColumn(name, str(dtype)) for name, dtype in rows.schema.items()]),
    )


def _cell(value: object) -> str | int | float | None:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value if value is None or isinstance(value, int) else str(value)


def quarantine_spec(asset: dg.AssetKey, contract: TableContract, **options: Any) -> dg.AssetSpec:  # noqa: ANN401 - as `dg.AssetSpec` takes them
    """Return the spec of the asset that contains a table's quarantined rows."""
    columns = [dg.TableColumn(column.name, str(column.dtype.base_type())) for column in contract.columns]
    rules = dg.TableColumn(BROKEN_RULES, "List", description="The rules that the row breaks.")
    return dg.AssetSpec(
        key=quarantine_key(asset),
        description=f"Rows of {asset.to_user_string()} that break its contract; empty if there are none.",
        metadata={"dagster/column_schema": dg.TableSchema(columns=[*columns, rules])},
        **options,
    )
