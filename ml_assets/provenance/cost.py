"""The cost of models and tables, by month and stage, from manifests and step records: hours and money.

Not here: measuring (see `ml_assets.lake.usage`), and budgets (see `ml_assets.logic.monitoring.budget`).

For each resource, an artifact is charged the larger of the requested and the used amount, times its share of the step's
seconds, times the price of an hour:

    CPU hours         max(cores requested x seconds, CPU seconds) / 3600
    memory GiB hours  max(bytes requested, peak bytes) x seconds / 3600 / 2**30
    GPU hours         max(GPUs requested x seconds, seconds that they were busy) / 3600

A failed attempt counts in the month in which it failed, and its cost is shared by the assets of its step. An attempt
whose process was killed, or that still runs, is counted but not measured. Waiting pods, storage and requests are not
included.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.manifest import MOST_BYTES, Cost
from ml_assets.lake.manifests import MANIFEST_FOLDERS, Manifests
from ml_assets.lake.order import MANIFEST_NAME
from ml_assets.lake.sealing import check_version, seal_problem
from ml_assets.lake.steps import RUNS, failures_of, steps_of
from ml_assets.provenance.prices import Prices

CLOCKS: Final = timedelta(days=1)
"""How much the clocks of pods and of the lake's store may differ."""


class Hours(NamedTuple):
    """Hours of each resource; None if unknown."""

    cpu: float | None = None
    memory_gib: float | None = None
    gpu: float | None = None

    def plus(self, other: "Hours") -> "Hours":
        """Return the sum of the known hours."""
        return Hours(*(_sum(mine, its) for mine, its in zip(self, other, strict=True)))

    def most(self, other: "Hours") -> "Hours":
        """Return the larger known hours of each resource."""
        pairs = zip(self, other, strict=True)
        return Hours(*(max((it for it in pair if it is not None), default=None) for pair in pairs))


_NONE: Final = Hours()


class Spent(NamedTuple):
    """The cost of one artifact, or of a failed attempt.

    Attributes:
        cost: None if it was not measured.
    """

    asset: str
    at: datetime
    run_id: str | None
    cost: Cost | None
    is_failed: bool = False

    @property
    def month(self) -> str:
        """Its month in UTC, such as `2013-04`."""
        return month_of(self.at)


class _Costing(BaseModel):
    """The part of a manifest with its time and cost, which is faster to read than the whole."""

    model_config = ConfigDict(frozen=True)

    asset: str
    created_at: AwareDatetime
    run_id: str | None = None
    step: str | None = None
    retry_number: int | None = None
    cost: Cost | None = None


@dataclass
class Row:
    """The cost of one stage of a model, or of one table, in a month.

    Attributes:
        owner: the model; for tables the first part of their names, such as `raw`.
        stage: the rest of the name.
        failed: the number of failed attempts, including those that were not measured.
        failed_seconds: the part of `seconds` in failed attempts.
        money: None if prices are missing (in general, or for a used GPU) or no cost was measured.
        unmeasured: the number of artifacts and failed attempts without a measured cost, which no sum includes.
    """

    owner: str
    month: str
    stage: str
    runs: set[str] = field(default_factory=set)
    artifacts: int = 0
    failed: int = 0
    seconds: float = 0.0
    failed_seconds: float = 0.0
    used: Hours = _NONE
    requested: Hours = _NONE
    charged: Hours = _NONE
    money: float | None = 0.0
    unmeasured: int = 0

    @property
    def is_measured(self) -> bool:
        """Whether any cost is known."""
        return self.unmeasured < self.artifacts + self.failed

    @classmethod
    def of(cls, spent: Spent, prices: Prices | None) -> "Row":
        """Return the cost of one artifact or failed attempt."""
        owner, _, stage = spent.asset.partition("/")
        row = cls(owner, spent.month, stage or owner, {spent.run_id} if spent.run_id else set())
        row.artifacts, row.failed = int(not spent.is_failed), int(spent.is_failed)
        if (cost := spent.cost) is None:
            row.unmeasured = 1
            return row
        row.seconds, row.failed_seconds = cost.seconds, cost.seconds if spent.is_failed else 0.0
        row.used, row.requested, row.charged = used(cost), requested_hours(cost), charged(cost)
        row.money = None if prices is None else money(cost, prices)
        return row


def month_of(moment: datetime) -> str:
    """Return a moment's month in UTC, such as `2013-04`."""
    return f"{moment.astimezone(UTC):%Y-%m}"


def used(cost: Cost) -> Hours:
    """Return the used hours."""
    memory = None if cost.peak_memory_bytes is None else cost.peak_memory_bytes * cost.seconds
    return _hours(cost.cpu_seconds, memory, cost.gpu_seconds)


def requested_hours(cost: Cost) -> Hours:
    """Return the requested hours."""
    given = cost.requested
    return _hours(
        *(None if amount is None else amount * cost.seconds for amount in (given.cpu, given.memory_bytes, given.gpus))
    )


def charged(cost: Cost) -> Hours:
    """Return the charged hours."""
    return requested_hours(cost).most(used(cost))


def money(cost: Cost, prices: Prices) -> float | None:
    """Return the cost of the charged hours; None if they include a GPU without a price."""
    hours = charged(cost)
    of_gpu = prices.of_gpu(cost.requested.gpu_type) if hours.gpu else 0.0
    if of_gpu is None:
        return None
    return (
        (hours.cpu or 0.0) * prices.cpu_hour
        + (hours.memory_gib or 0.0) * prices.memory_gib_hour
        + (hours.gpu or 0.0) * of_gpu
    )


def spending(lake: Manifests, *, owner: str | None = None, month: str | None = None) -> Iterator[Spent]:
    """Yield the cost of every artifact, including removed ones, and of every failed attempt.

    It lists the lake, or one owner's part of it, and reads the manifests and step records since the day before the
    month: 100,000 of them from a disk in some ten seconds. An owner is a model, or the first part of tables' names; a
    month is such as `2013-04`.

    Raises:
        CorruptArtifactError: a manifest is damaged or was edited.
    """
    since = None if month is None else datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC) - CLOCKS
    paths = [*_written(lake, owner, since)]
    measured = [it for it in lake.map(lambda path: _read(lake, path), paths) if it is not None]
    done = {(it.run_id, it.step, it.retry_number) for it in measured}
    spent = [Spent(it.asset, it.created_at, it.run_id, it.cost) for it in measured]
    for one in (*spent, *_failed(lake, owner, since, done)):
        if month is None or one.month == month:
            yield one


def _failed(
    lake: Manifests,
    owner: str | None,
    since: datetime | None,
    done: Collection[tuple[str | None, str | None, int | None]],
) -> Iterator[Spent]:
    """Yield the failed attempts of an owner's assets. One without artifact and cost was killed or still runs.

    Runs with only files older than `since` are not read.
    """
    listed = lake.tree_with_sizes(lake.path(RUNS)).items()
    runs = sorted({name.split("/")[0] for name, stat in listed if since is None or stat.modified_at >= since})
    read = lake.map(lambda run: ([*steps_of(lake, run)], [*failures_of(lake, run)]), runs)
    for run, (records, failures) in zip(runs, read, strict=True):
        reported = {(it.step, it.retry_number) for it in failures}
        attempts: list[tuple[str, int, datetime, Cost | None]] = [
            *((it.step, it.retry_number, it.failed_at, it.cost) for it in failures),
            *(
                (it.step, it.retry_number, it.started_at, None)
                for it in records
                if (it.step, it.retry_number) not in reported and (run, it.step, it.retry_number) not in done
            ),
        ]
        assets = {(it.step, it.retry_number): it.assets for it in records}
        for step, attempt, at, cost in attempts:
            its = assets.get((step, attempt), ())
            for asset in its:
                if owner is None or asset.partition("/")[0] == owner:
                    yield Spent(asset, at, run, None if cost is None else cost.share(len(its)), is_failed=True)


def _written(lake: Manifests, owner: str | None, since: datetime | None) -> Iterator[str]:
    for top in MANIFEST_FOLDERS:
        root = lake.path(top, *([owner] if owner else []))
        for relative, stat in lake.tree_with_sizes(root).items():
            if MANIFEST_NAME.fullmatch(relative.rsplit("/", 1)[-1]) and (since is None or stat.modified_at >= since):
                yield f"{root}/{relative}"


def _read(lake: Manifests, path: str) -> _Costing | None:
    """Return the cost part of a manifest; None if garbage collection has removed it since the listing."""
    try:
        text = lake.read(path, limit=MOST_BYTES)
    except MissingArtifactError:
        return None
    try:
        costing = _Costing.model_validate_json(text)
    except ValidationError as error:
        raise CorruptArtifactError(
            f"{path} contains no cost: it is not a manifest. Restore the original file."
        ) from error
    if (problem := seal_problem(text)) is not None:
        raise CorruptArtifactError(f"{path} is not the original manifest: {problem}.")
    check_version(text, where=path, what="a manifest")
    return costing


def rows_of(found: Iterable[Spent], prices: Prices | None) -> list[Row]:
    """Return the costs by owner, month and stage, in this order."""
    rows: dict[tuple[str, str, str], list[Row]] = {}
    for spent in found:
        row = Row.of(spent, prices)
        rows.setdefault((row.owner, row.month, row.stage), []).append(row)
    return [total_of(rows[key], *key) for key in sorted(rows)]


def total_of(rows: Sequence[Row], owner: str = "", month: str = "", stage: str = "total") -> Row:
    """Return the sum of rows."""
    total = Row(owner, month, stage)
    for row in rows:
        total.runs |= row.runs
        total.artifacts += row.artifacts
        total.seconds += row.seconds
        total.failed += row.failed
        total.failed_seconds += row.failed_seconds
        total.used = total.used.plus(row.used)
        total.requested = total.requested.plus(row.requested)
        total.charged = total.charged.plus(row.charged)
        total.unmeasured += row.unmeasured
    amounts = [row.money for row in rows if row.is_measured]
    known = [amount for amount in amounts if amount is not None]
    total.money = sum(known) if known and len(known) == len(amounts) else None
    return total


def _hours(cpu: float | None, memory: float | None, gpu: float | None) -> Hours:
    return Hours(
        None if cpu is None else cpu / 3600,
        None if memory is None else memory / 3600 / 2**30,
        None if gpu is None else gpu / 3600,
    )


def _sum(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other
