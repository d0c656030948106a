"""The IO manager between Dagster and the lake: loads inputs, and publishes outputs with manifests.

Types come from the annotations of the assets.
"""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from datetime import date
from typing import Final

import dagster as dg
import polars as pl
from pydantic import JsonValue

from ml_assets.adapters.dagster import AssetNode
from ml_assets.contracts.periods import DAILY, Calendar
from ml_assets.dagster_storage.code_versions import CODE, code_parts, joined_code
from ml_assets.dagster_storage.event_log import VERSION, EventLogByDay
from ml_assets.lake.days import ALLOW_GAPS, OPTIONAL_LOOK_BACK, days_by_asset, gaps_of, merge_days, span_of
from ml_assets.lake.errors import MissingArtifactError, PublicationConflictError
from ml_assets.lake.grains import grain_parameter
from ml_assets.lake.ledger import Input, StepLedger
from ml_assets.lake.manifest import CHANGED_ROWS, EXCLUDED_ROWS, FILES, ROWS_READ, ArtifactRef, Cost, Manifest
from ml_assets.lake.partitions import calendar_of
from ml_assets.lake.quarantine import beside
from ml_assets.lake.resource import LakeResource, ledger_of, record_step
from ml_assets.lake.run_tags import range_of
from ml_assets.lake.store import Origin
from ml_assets.lake.usage import Meter, pod_resources

_PERIOD: Final = "__period"
_MOST_CONFLICTS: Final = 20
"""How often a step restarts because another process published a partition that it had read.

One of the processes succeeds.
"""


class LakeIOManager(dg.ConfigurableIOManager):
    """Stores what assets return in the lake, and loads it for assets that depend on them.

    A step reads what its own run produced, or else the newest materialization. A step over a range of days returns one
    frame with a `day` column, or a mapping from partition key to artifact.
    """

    lake: LakeResource

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002 - dagster's signature
        """Start measuring a step that uses the lake only for its output."""
        self._unclaimed = Meter()

    def load_input(self, context: dg.InputContext) -> object:
        """Return an upstream artifact in the type of the parameter's annotation.

        Raises:
            MissingArtifactError: nothing was materialized for it.
            CorruptArtifactError: the artifact is damaged.
        """
        lake, step = self.lake.connect(), _step(context)
        ledger = StepLedger(lake) if step is None else ledger_of(lake, step)
        value = _read(ledger, _current(ledger, context, step), context.dagster_type.typing_type)
        if step is not None and context.name == _last_input(step):
            record_step(ledger, step)
        ledger.begin_body()
        return value

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Publish the result of a step, with its manifest.

        Raises:
            RetryRequested: another process published a partition that the step had read. The step starts again.
            LakeError: the lake cannot be written.
            ValueError: rows are outside of the requested days.
        """
        step = context.step_context
        ledger = ledger_of(self.lake.connect(), step, meter=self._unclaimed)
        cost = ledger.meter.take(pod_resources(step.step.tags))
        record_step(ledger, step)
        asset, layer = context.asset_key.to_user_string(), step.job_def.asset_layer
        calendar = calendar_of(context.asset_partitions_def) if context.has_asset_partitions else DAILY
        whole = ledger.origin(
            ledger.inputs,
            parameters={
                **_parameters(context),
                **grain_parameter(calendar.grain),
                **ledger.notes,
                **_left_out(context),
            },
            code_version=_made_with(layer.get(context.asset_key).code_version, ledger.code_behind),
            seconds=ledger.body_seconds(),
            cost=cost,
            missing_days=ledger.missing_days,
        )
        if context.has_asset_partitions:
            artifacts = by_partition(obj, context.asset_partition_keys, asset, calendar)
            windows, share = _windows(context), cost.share(len(artifacts))
            origins = {key: _of_period(whole, key, windows, ledger, share, calendar=calendar) for key in artifacts}
        else:
            artifacts, origins = {"": obj}, {"": whole}
        published = {
            key: (part, dataclasses.replace(origins[key], after=ledger.based_on(asset, key)))
            for key, part in artifacts.items()
        }
        try:
            manifests = ledger.lake.put_each(asset, published)
        except PublicationConflictError as error:
            context.log.warning(f"{error} The step starts again.")
            raise dg.RetryRequested(max_retries=_MOST_CONFLICTS) from error
        self._report(context, asset, manifests, cost)
        ledger.begin_body()
        self._unclaimed = Meter()

    def _report(self, context: dg.OutputContext, asset: str, manifests: Mapping[str, Manifest], cost: Cost) -> None:
        step = context.step_context
        last = list(manifests.values())[-1]
        # Dagster copies this metadata to each partition of the run.
        context.add_output_metadata(
            {
                "path": dg.MetadataValue.path(f"{self.lake.connect().url}/artifacts/{asset}"),
                "seconds of the step": round(sum(it.seconds or 0.0 for it in manifests.values()), 3),
                "CPU seconds of the step": round(cost.cpu_seconds or 0.0, 3),
                "peak memory of the step (MiB)": round((last.peak_memory_bytes or 0) / 2**20),
                **({} if context.has_asset_partitions else facts_of(last)),
            }
        )
        if context.has_asset_partitions:
            for partition, manifest in manifests.items():
                step.add_asset_metadata(facts_of(manifest), context.asset_key, partition)
        step.set_data_version(context.asset_key, data_version(manifests, step.instance))


def data_version(manifests: Mapping[str, Manifest], instance: dg.DagsterInstance) -> dg.DataVersion:
    """Return the data version of a step's output; a hash of all versions if it has several partitions.

    If the event log stores a version for each partition, the last one represents all. Dagster compares it with the
    newest event, and would otherwise warn within a step that materializes several tables.
    """
    versions = {key: manifest.version for key, manifest in manifests.items()}
    if len(versions) == 1 or isinstance(instance.event_log_storage, EventLogByDay):
        return dg.DataVersion([*versions.values()][-1])
    text = json.dumps(versions, sort_keys=True).encode()
    return dg.DataVersion(hashlib.blake2b(text, digest_size=16, usedforsecurity=False).hexdigest())


def facts_of(manifest: Manifest) -> dict[str, JsonValue]:
    """Return the metadata of an artifact for Dagster's UI."""
    rows: dict[str, JsonValue] = {} if manifest.rows is None else {"dagster/row_count": manifest.rows}
    read = manifest.parameters.get(ROWS_READ)
    rows_read: dict[str, JsonValue] = {"rows read": dict(read)} if isinstance(read, Mapping) else {}
    # Dagster would record the current code version of an asset whose champion was trained by older code.
    code: dict[str, JsonValue] = {CODE: manifest.code_version} if code_parts(manifest.code_version)[1] else {}
    return {VERSION: manifest.version, "seconds": round(manifest.seconds or 0.0, 3), **rows, **rows_read, **code}


def by_partition(obj: object, keys: typing.Sequence[str], asset: str, calendar: Calendar = DAILY) -> dict[str, object]:
    """Return one artifact for each partition key.

    Raises:
        ValueError: a frame has no column `day` or `hour`, or has days of periods that were not requested.
        TypeError: several partitions are expected of an object that cannot be split by day.
    """
    if isinstance(obj, pl.LazyFrame):
        obj = obj.collect()
    if isinstance(obj, Mapping):
        strange = sorted(set(obj) - set(keys))
        if strange:
            raise ValueError(f"{asset} returned partitions {strange[:5]} that were not requested.")
        silent = [key for key in keys if key not in obj]
        if silent:
            raise ValueError(
                f"{asset} returned nothing for {', '.join(silent[:5])}; return an artifact for each of {len(keys)} "
                "partitions, an empty one if there are no rows."
            )
        return dict(obj)
    if len(keys) == 1:
        if isinstance(obj, pl.DataFrame) and calendar.column in obj.columns:
            _check_days(obj, keys, asset, calendar)
        return {keys[0]: obj}
    if not isinstance(obj, pl.DataFrame):
        raise TypeError(f"{asset} returned one {type(obj).__name__} for {len(keys)} partitions; return one for each.")
    if calendar.column not in obj.columns:
        raise ValueError(f"{asset} has no column '{calendar.column}', which splits its rows into partitions.")
    _check_days(obj, keys, asset, calendar)
    rows = obj.with_columns(calendar.key_of_row().alias(_PERIOD))
    by_period = rows.partition_by(_PERIOD, as_dict=True, include_key=False, maintain_order=True)
    parts = {key: part for (key,), part in by_period.items()}
    empty = obj.clear()
    return {key: parts.get(key, empty) for key in keys}


def _check_days(frame: pl.DataFrame, keys: typing.Sequence[str], asset: str, calendar: Calendar) -> None:
    found = {str(key) for key in frame.select(calendar.key_of_row()).to_series().unique()}
    strange = sorted(found - set(keys))
    if strange:
        raise ValueError(
            f"{asset} returned rows of {', '.join(strange[:5])}; expected only {keys[0]} to {keys[-1]}. "
            "Filter the rows by day before returning them."
        )


def _of_period(
    whole: Origin,
    key: str,
    windows: Mapping[str, tuple[int, int]],
    ledger: StepLedger,
    share: Cost,
    *,
    calendar: Calendar,
) -> Origin:
    """Return the origin of one period: its share of the step's, and what was read for this period alone."""
    inputs = (*inputs_of_period(ledger.inputs, key, windows, calendar), *ledger.inputs_of(key))
    behind = next((it.code_behind for it in inputs if it.ref.partition == key and it.code_behind), "")
    missing = {
        asset: keys_in_window(days, key, windows.get(asset), calendar) for asset, days in whole.missing_days.items()
    }
    return ledger.origin(
        inputs,
        parameters=facts_of_day(whole.parameters, key),
        code_version=_made_with(whole.code_version, behind),
        seconds=None if whole.seconds is None else whole.seconds / share.parts,
        cost=share,
        missing_days=merge_days([missing, *(it.missing_days for it in inputs)]),
    )


def keys_in_window(
    keys: typing.Iterable[str], key: str, window: tuple[int, int] | None, calendar: Calendar = DAILY
) -> tuple[str, ...]:
    """Return which of some periods are in the window of a period; all if there is no window."""
    if window is None:
        return tuple(keys)
    first, last = (calendar.moved(key, periods) for periods in window)
    return tuple(it for it in keys if first <= it <= last)


def inputs_of_period(
    inputs: typing.Sequence[Input], key: str, windows: Mapping[str, tuple[int, int]], calendar: Calendar = DAILY
) -> tuple[Input, ...]:
    """Return the inputs of one period of a range, so that its lineage does not name every period of the run.

    Args:
        inputs: the inputs of the whole step.
        key: the period.
        windows: by upstream asset, the first and last period that are read, relative to the period. Assets without a
            window, and without partitions, count for every period.
        calendar: of the periods.
    """
    ends = {asset: (calendar.moved(key, first), calendar.moved(key, last)) for asset, (first, last) in windows.items()}

    def is_read(partition: str | None, asset: str) -> bool:
        return partition is None or asset not in ends or ends[asset][0] <= partition <= ends[asset][1]

    return tuple(it for it in inputs if is_read(it.ref.partition, it.ref.asset))


def _windows(context: dg.OutputContext) -> dict[str, tuple[int, int]]:
    """Return the window of each upstream table by day according to its partition mapping; by default its own day.

    For the step's own asset and its quarantine tables the window is the same day too.
    """
    node = context.step_context.job_def.asset_layer.get(context.asset_key)
    windows = dict.fromkeys(beside(context.asset_key.to_user_string()), (0, 0))
    for parent in node.parent_keys:
        mapping = node.partition_mappings.get(parent)
        if mapping is None:
            windows[parent.to_user_string()] = (0, 0)
        elif isinstance(mapping, dg.TimeWindowPartitionMapping):
            windows[parent.to_user_string()] = (mapping.start_offset, mapping.end_offset)
    return windows


def _step(context: dg.InputContext) -> dg.StepExecutionContext | None:
    """Return the step; None if the input is loaded outside of a step, such as by `Definitions.load_asset_value`."""
    try:
        return context.step_context
    except dg.DagsterInvariantViolationError:
        return None


def _last_input(step: dg.StepExecutionContext) -> str:
    """Return the input that Dagster loads last. Inputs that only define an order are not loaded."""
    return [name for name, it in step.op_def.input_dict.items() if not it.dagster_type.is_nothing][-1]


def _current(ledger: StepLedger, context: dg.InputContext, step: dg.StepExecutionContext | None) -> list[ArtifactRef]:
    """Return the artifacts of an input, in the order of their partitions.

    Raises:
        MissingArtifactError: there are none.
    """
    asset = context.asset_key.to_user_string()
    if not context.has_asset_partitions:
        refs = ledger.newest(asset, [""])
        if not refs:
            raise MissingArtifactError(f"{asset} has not been materialized yet; materialize it first.")
        return [refs[""]]
    keys = _wanted(context, step)
    refs = ledger.newest(asset, keys)
    found = [refs[key] for key in keys if key in refs]
    if not found:
        raise MissingArtifactError(f"{asset} has nothing for {span_of(keys)}; materialize those partitions first.")
    written = [] if step is None else [node for node in _made_by(step) if node.is_partitioned]
    own = range_of(step.dagster_run.tags) if step is not None and written else None
    if own is not None:
        allow_gaps = all(node.metadata.get(ALLOW_GAPS) for node in written)
        needed = [it for it in keys if it >= own[0] or not any(OPTIONAL_LOOK_BACK in node.metadata for node in written)]
        _refuse_gaps(ledger, context, own, needed, refs, allow_gaps=allow_gaps)
    return found


def _made_by(step: dg.StepExecutionContext) -> list[AssetNode]:
    layer = step.job_def.asset_layer
    keys = layer.get_selected_entity_keys_for_node(step.node_handle)
    return [layer.get(key) for key in keys if isinstance(key, dg.AssetKey)]


def _refuse_gaps(
    ledger: StepLedger,
    context: dg.InputContext,
    own: tuple[str, str],
    keys: typing.Sequence[str],
    there: typing.Container[str],
    *,
    allow_gaps: bool,
) -> None:
    """Refuse missing days instead of reading them as days without rows. Allowed gaps are noted.

    Raises:
        MissingArtifactError: days are missing that may not be.
    """
    asset, (first, last) = context.asset_key.to_user_string(), own
    before = gaps_of(first, {asset: [it for it in keys if it < first]}, {asset: there}, allow_gaps=allow_gaps)
    within = gaps_of(last, {asset: [it for it in keys if it >= first]}, {asset: there}, allow_gaps=False)
    ledger.note_missing(before.allowed)
    calendar = calendar_of(context.asset_partitions_def)
    if missing := merge_days([before.blocking, within.blocking]):
        raise MissingArtifactError(
            f"{days_by_asset(missing, calendar)} is missing, so {span_of(own)} cannot be materialized. Materialize it "
            "first: a missing day is not read as a day without rows."
        )


def _left_out(context: dg.OutputContext) -> dict[str, JsonValue]:
    """Return the counts of rows that a step left out, from its output metadata."""
    counts = context.output_metadata.get(EXCLUDED_ROWS)
    if isinstance(counts, dg.JsonMetadataValue) and isinstance(counts.data, Mapping):
        return {EXCLUDED_ROWS: dict(counts.data)}
    return {}


def facts_of_day(facts: Mapping[str, JsonValue], key: str) -> Mapping[str, JsonValue]:
    """Return facts, with those by day reduced to one day."""
    own: dict[str, JsonValue] = {}
    for name in (FILES, CHANGED_ROWS):
        by_day = facts.get(name)
        if isinstance(by_day, Mapping):
            own[name] = {day: it for day, it in by_day.items() if day == key}
    left_out = facts.get(EXCLUDED_ROWS)
    if isinstance(left_out, Mapping) and isinstance(left_out.get(key), Mapping):
        own[EXCLUDED_ROWS] = left_out[key]
    return {**facts, **own}


def _wanted(context: dg.InputContext, step: dg.StepExecutionContext | None) -> list[str]:
    """Return the partition keys to read. An input's `up_to` names the config field that holds the last day.

    Its `calendar` says which periods contain something of that day.
    """
    keys, metadata = list(context.asset_partition_keys), context.definition_metadata or {}
    config = None if step is None else step.op_config
    day = config.get(metadata.get("up_to")) if isinstance(config, Mapping) else None
    if not day:
        return keys
    last = Calendar(**metadata["calendar"].data).last_key(date.fromisoformat(str(day)))
    return [key for key in keys if key <= last]


def _read(ledger: StepLedger, refs: list[ArtifactRef], kind: type | None) -> object:
    if kind is None or kind is typing.Any:
        raise TypeError(
            f"the parameter that takes {refs[0].asset} has no type annotation; add one, such as pl.LazyFrame."
        )
    if kind is pl.LazyFrame:
        return ledger.scan(refs)
    if kind is pl.DataFrame:
        if len(refs) == 1:
            return ledger.get(refs[0], pl.DataFrame)
        return ledger.scan(refs).collect()
    if typing.get_origin(kind) in {dict, Mapping}:
        _, item = typing.get_args(kind)
        return {ref.partition: artifact for ref, artifact in zip(refs, ledger.get_each(refs, item), strict=True)}
    return ledger.get(refs[0], kind)


def _parameters(context: dg.OutputContext) -> dict[str, typing.Any]:
    metadata = context.definition_metadata or {}
    declared = metadata.get("ml_assets/parameters")
    data = declared.data if isinstance(declared, dg.JsonMetadataValue) else None
    parameters = data if isinstance(data, Mapping) else {}
    config = context.step_context.op_config
    given = config if isinstance(config, dict) else {}
    # A field that a run does not set has its declared value.
    return {**parameters, **{name: it for name, it in given.items() if it is not None or name not in parameters}}


def _made_with(version: str | None, behind: str) -> str | None:
    """Return a code version with the digest of the inputs' training code; unchanged if it has no second part."""
    own, now = code_parts(version)
    return joined_code(own, behind or now) if now else version
