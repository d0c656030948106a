"""What all stages share: how a stage of a declared model becomes an asset.

What a stage does stays out.
"""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from types import CodeType
from typing import Any

import dagster as dg
import polars as pl
from pydantic import BaseModel, JsonValue

from ml_assets.contracts.artifacts import Feature, Model, Promotion
from ml_assets.contracts.checking import BROKEN_RULES, Finding, Others, Report
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.table import Rule, TableContract
from ml_assets.declaration import Compute, Days, Freshness, ModelDeclaration, Stage, check_against_columns
from ml_assets.logic.rejected import rejected_rows
from ml_assets.provenance import code_version
from resources.lake import Lake, Making
from resources.manifest import ArtifactRef
from resources.promotion_log import PromotionLog
from resources.quarantine import QUARANTINE

TABLES = "tables"
DAY = "day"


@dataclass(frozen=True)
class ModelPlan:
    """A model's declaration beside the contracts of the tables it names."""

    declaration: ModelDeclaration
    features_table: TableContract
    labels_table: TableContract

    @classmethod
    def of(cls, declaration: ModelDeclaration, contracts: Mapping[str, TableContract]) -> "ModelPlan":
        """Join a declaration with its tables' contracts.

        Raises:
            ContractError: a table or a column that the declaration names has no contract; all are listed.
        """
        wanted = (declaration.features.table, declaration.labels.table)
        missing = [name for name in wanted if name not in contracts]
        if missing:
            raise ContractError(
                f"model '{declaration.name}' wants table{'s' if len(missing) > 1 else ''} {', '.join(missing)}, which "
                f"dbt does not know. Add a model of that name with columns and types under dbt_project/models."
            )
        plan = cls(declaration, contracts[wanted[0]], contracts[wanted[1]])
        mistakes = check_against_columns(
            declaration,
            features={c.name: c.role or "" for c in plan.features_table.columns},
            labels={c.name: c.role or "" for c in plan.labels_table.columns},
        )
        if mistakes:
            raise ContractError("\n".join(f"model '{declaration.name}': {mistake}." for mistake in mistakes))
        return plan

    @property
    def name(self) -> str:
        """The model's name."""
        return self.declaration.name

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a prediction."""
        return self.declaration.features.key

    @functools.cached_property
    def features(self) -> tuple[Feature, ...]:
        """The input columns of the model, in the order of its table's contract."""
        chosen = self.declaration.features
        return tuple(
            Feature(
                name=column.name,
                dtype=str(column.dtype),
                is_categorical=column.is_categorical,
                unit=column.unit,
                description=column.description,
            )
            for column in self.features_table.columns
            if (column.name in chosen.columns if chosen.columns is not None else column.role == "feature")
            and column.name not in chosen.exclude
        )

    @property
    def features_columns(self) -> tuple[str, ...]:
        """All columns of the features artifact: key, day, times, features."""
        wanted = self.declaration.features
        fixed = (*wanted.key, DAY, wanted.event_time, wanted.prediction_time)
        return tuple(dict.fromkeys([*fixed, *(feature.name for feature in self.features)]))

    @functools.cached_property
    def features_contract(self) -> TableContract:
        """What the features artifact must look like; that keys point to rows of other tables is dbt's to test."""
        contract = self.features_table.only(self.features_columns)
        return replace(contract, columns=tuple(replace(column, relationship=None) for column in contract.columns))

    @functools.cached_property
    def inputs_contract(self) -> TableContract:
        """What the features that the model is offered must look like."""
        return self.features_contract.only([feature.name for feature in self.features])

    @property
    def partitions(self) -> dg.DailyPartitionsDefinition:
        """The model's days."""
        return daily(self.declaration.days)

    def asset(self, stage: str) -> dg.AssetKey:
        """Return the key of one of the model's assets."""
        return dg.AssetKey([self.name, stage])

    def promotion_log(self, lake: Lake) -> PromotionLog[Promotion]:
        """Return the model's promotion log."""
        return PromotionLog(lake, self.name, Promotion)


@functools.cache
def daily(days: Days) -> dg.DailyPartitionsDefinition:
    """Return the partitions of declared days; one object for all that share them, so that its keys are made once."""
    end = None if days.last is None else str(days.last + timedelta(days=1))
    return dg.DailyPartitionsDefinition(start_date=str(days.first), end_date=end)


def table_key(name: str) -> dg.AssetKey:
    """Return the asset of a dbt model."""
    return dg.AssetKey([TABLES, name])


def stage(
    plan: ModelPlan,
    name: Stage,
    body: Callable[..., Any] | Sequence[Callable[..., Any]],
    *,
    kinds: set[str],
    by_day: bool = False,
    columns: TableContract | None = None,
    parameters: Mapping[str, Any] | None = None,
    **options: Any,  # noqa: ANN401 - passed on to `dg.asset` as they are
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Return `dg.asset` for one stage of one model.

    Args:
        plan: the model.
        name: the stage, which is the asset's name too.
        body: the pure function or functions that do the work; their code is the asset's code version.
        kinds: what it is made with, for the UI.
        by_day: whether there is one artifact a day.
        columns: the contract of what it holds, for the catalog.
        parameters: declared values that change the result, for the manifest.
        **options: what else `dg.asset` takes: `ins`, `deps`, `check_specs`.
    """
    declaration = plan.declaration
    given = {key: _plain(value) for key, value in (parameters or {}).items()}
    metadata: dict[str, Any] = {"ml_assets/parameters": dg.MetadataValue.json(given)}
    if columns is not None:
        metadata["dagster/column_schema"] = column_schema(columns)

    def decorate(function: Callable[..., Any]) -> dg.AssetsDefinition:
        description = _ready(function)
        return dg.asset(
            key=plan.asset(name),
            group_name=plan.name,
            description=description,
            kinds=kinds,
            owners=[declaration.owner] if declaration.owner else None,
            code_version=code_version(body if isinstance(body, Sequence) else [body]),
            partitions_def=plan.partitions if by_day else None,
            backfill_policy=dg.BackfillPolicy.single_run() if by_day else None,
            metadata=metadata,
            op_tags=pod_tags(declaration.compute.get(name)),
            freshness_policy=freshness_policy(declaration.freshness.get(name)),
            io_manager_key="io_manager",
            **options,
        )(function)

    return decorate


_SIGNATURES: dict[CodeType, inspect.Signature] = {}


def _ready(function: Callable[..., Any]) -> str:
    """Return a stage's docstring, and spare Dagster from working its signature and docstring out for every model.

    Dagster asks for the signature of each asset's function 18 times and parses its docstring for the inputs'
    descriptions; with 500 models of 12 stages that is a fifth of the time that loading them takes.
    """
    description = inspect.cleandoc(function.__doc__ or "")
    function.__doc__ = None
    code = function.__code__
    if code not in _SIGNATURES:
        _SIGNATURES[code] = inspect.signature(function)
    function.__signature__ = _SIGNATURES[code]  # type: ignore[attr-defined]
    return description


def _plain(value: object) -> JsonValue:
    """Return a value as JSON knows it."""
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
    """Return a contract as Dagster's catalog shows it; one object for all models on a table."""
    said_otherwise = {"columns", "not_null"}  # as the list of columns itself, and as `nullable`
    others: dict[str, list[str]] = {}
    for rule in contract.rules:
        if rule.kind not in said_otherwise and not (rule.kind == "unique" and len(rule.columns) == 1):
            others.setdefault(rule.columns[0] if len(rule.columns) == 1 else "", []).append(rule.name)
    unique = {rule.columns for rule in contract.rules if rule.kind == "unique"}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=str(column.dtype.base_type()),  # Datetime, without its unit and lack of a zone
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
    """Return Dagster's policy for a declared freshness."""
    if freshness is None:
        return None
    return dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=freshness.fail_hours),
        warn_window=None if freshness.warn_hours is None else timedelta(hours=freshness.warn_hours),
    )


def pod_tags(compute: Compute | None) -> dict[str, Any]:
    """Return the tags that give a step a pod of its own with these resources."""
    if compute is None:
        return {}
    asked = {"cpu": compute.cpu, "memory": compute.memory}
    resources: dict[str, str] = {name: amount for name, amount in asked.items() if amount is not None}
    if compute.gpu:
        resources["nvidia.com/gpu"] = str(compute.gpu)
    pod: dict[str, Any] = {}
    if compute.node_selector:
        pod["node_selector"] = dict(compute.node_selector)
    if compute.tolerations:
        pod["tolerations"] = [dict(toleration) for toleration in compute.tolerations]
    container: dict[str, Any] = {"resources": {"requests": resources, "limits": resources}} if resources else {}
    if compute.image:
        container["image"] = compute.image
    return {"dagster-k8s/config": {"container_config": container, "pod_spec_config": pod}}


def day_of(key: str) -> date:
    """Return the day of a partition key."""
    return date.fromisoformat(key)


def days_between(first: date, last: date) -> list[date]:
    """Return all days of a range, both ends included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def day_range(context: dg.AssetExecutionContext) -> tuple[date, date]:
    """Return the first and last day a step was asked for."""
    keys = context.partition_keys
    return day_of(keys[0]), day_of(keys[-1])


def newest_day(frame: pl.LazyFrame) -> date:
    """Return the newest day of a by-day table.

    Raises:
        DataError: it has no rows.
    """
    day = frame.select(pl.col(DAY).max()).collect().item()
    if day is None:
        raise DataError("there are no feature rows to train on; materialize features first.")
    return date.fromisoformat(str(day))


def image(svg: str, alt: str) -> dg.MarkdownMetadataValue:
    """Return a plot as Dagster's UI shows it."""
    from ml_assets.logic.plots.drawing import as_markdown_image

    return dg.MetadataValue.md(as_markdown_image(svg, alt))


@dataclass(frozen=True)
class Champion:
    """Who serves: the version, the model itself, and the log's entry that says why."""

    version: str
    model: Model
    entry: Promotion


def champion_model(lake: Lake, plan: ModelPlan) -> Champion | None:
    """Return the model that serves; None where nobody does yet."""
    entry = plan.promotion_log(lake).last()
    if entry is None or entry.champion is None:
        return None
    ref = ArtifactRef(asset=plan.asset("model").to_user_string(), version=entry.champion)
    lake.note(champion=entry.champion)
    return Champion(entry.champion, lake.get(ref, Model), entry)


def serving_champion(lake: Lake, plan: ModelPlan) -> Champion:
    """Return the model that serves.

    Raises:
        DataError: nobody serves.
    """
    champion = champion_model(lake, plan)
    if champion is None:
        raise DataError(
            f"model '{plan.name}' has no champion, so there is nothing to predict with. Materialize "
            f"{plan.name}/champion; if the gate refused the challenger, its reasons stand there."
        )
    return champion


def check_name(rule: str) -> str:
    """Return a rule as the name of an asset check, which may hold only letters, digits and underscores."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", rule).strip("_")[:120]


def check_specs(contract: TableContract, asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return one asset check for each rule of a contract."""
    return rule_specs(contract.rules, asset)


def rule_specs(rules: Iterable[Rule], asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return one asset check for each rule."""
    return [
        dg.AssetCheckSpec(check_name(rule.name), asset=asset, description=rule.name, blocking=rule.is_blocking)
        for rule in rules
    ]


def check_results(
    report: Report, asset: dg.AssetKey, also: Mapping[str, Mapping[str, int]] | None = None
) -> Iterator[dg.AssetCheckResult]:
    """Yield what each rule found as the result of its asset check, passing ones too.

    Args:
        report: the findings.
        asset: what was looked at.
        also: by rule, more counts to tell: rows that were quarantined, rows that were released.
    """
    for finding in report.findings:
        yield dg.AssetCheckResult(
            check_name=check_name(finding.rule.name),
            asset_key=asset,
            passed=finding.passed,
            severity=dg.AssetCheckSeverity.ERROR if finding.rule.is_blocking else dg.AssetCheckSeverity.WARN,
            metadata={
                "rule": finding.rule.name,
                "rows": finding.rows,
                **_broken(report, finding),
                **(also or {}).get(finding.rule.name, {}),
            },
        )


def _broken(report: Report, finding: Finding) -> dict[str, Any]:
    if finding.passed:
        return {}
    days = {"days": dg.MetadataValue.json(dict(finding.partitions))} if finding.partitions else {}
    samples = {} if finding.samples.is_empty() else {"samples": rows_shown(finding.samples, report.contract)}
    return {
        "broken": finding.broken, "share": finding.share, **days, **samples, "finding": report.sentence(finding),
    }  # fmt: skip


def quarantine_key(asset: dg.AssetKey) -> dg.AssetKey:
    """Return the asset that holds the rows which a table set aside."""
    return dg.AssetKey([*asset.path[:-1], f"{asset.path[-1]}{QUARANTINE}"])


def quarantine_spec(asset: dg.AssetKey, contract: TableContract, **options: Any) -> dg.AssetSpec:  # noqa: ANN401 - as `dg.AssetSpec` takes them
    """Return the spec of the asset that holds the rows which a table set aside."""
    columns = [dg.TableColumn(column.name, str(column.dtype.base_type())) for column in contract.columns]
    rules = dg.TableColumn(BROKEN_RULES, "List", description="The rules that the row breaks.")
    return dg.AssetSpec(
        key=quarantine_key(asset),
        description=f"Rows of {asset.to_user_string()} that broke its contract, set aside; empty on a clean day.",
        metadata={"dagster/column_schema": dg.TableSchema(columns=[*columns, rules])},
        **options,
    )


def rows_shown(rows: pl.DataFrame, contract: TableContract) -> dg.TableMetadataValue:
    """Return rows as a table of the UI; what is personal stays in the lake."""
    personal = {column.name for column in contract.columns if column.is_pii}
    return dg.MetadataValue.table(
        [
            dg.TableRecord({name: _shown(value, is_pii=name in personal) for name, value in row.items()})
            for row in rows.iter_rows(named=True)
        ],
        dg.TableSchema(columns=[dg.TableColumn(name, str(dtype)) for name, dtype in rows.schema.items()]),
    )


def _shown(value: object, *, is_pii: bool) -> str | int | float | None:
    if value is None or (isinstance(value, int | float) and not is_pii):
        return value
    return "(personal)" if is_pii else str(value)


def reject(
    lake: Lake,
    asset: dg.AssetKey,
    days: Mapping[str, pl.DataFrame],
    report: Report,
    *,
    run_id: str,
    inputs: tuple[ArtifactRef, ...] = (),
    others: Others | None = None,
) -> None:
    """Keep the days that broke a blocking rule as `<asset>__rejected`, so that they can be inspected.

    Args:
        lake: where to; what stands there under the asset's own name stays.
        asset: what they would have become.
        days: the rows of each day of the run by partition key; under '' where the table is whole.
        report: what holding all of these rows against their contract found.
        run_id: the run that made them.
        inputs: what they were made from.
        others: the tables that relationships point to, as they were given to `check_table`.
    """
    found = {day for finding in report.blocking for day in finding.partitions}
    everywhere = any(not finding.partitions for finding in report.blocking)  # a wrong shape is that of every day
    making = Making(
        inputs=inputs, run_id=run_id, parameters={"refused": [report.sentence(it) for it in report.blocking]}
    )
    broken = {day: rows for day, rows in days.items() if everywhere or day in found}
    name = f"{asset.to_user_string()}__rejected"
    marked = rejected_rows(pl.concat(broken.values()), report, others=others)
    begin = 0
    for day, rows in broken.items():
        lake.put(name, day or None, marked.slice(begin, rows.height), making)
        begin += rows.height
