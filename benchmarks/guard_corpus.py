"""Leaks of each kind, to be planted in three honest tables, and those tables: what `benchmarks.guards` tries.

The honest columns are difficult on purpose: lags of the target, a name that sounds like an outcome, numbers that are
different in each row, times before the prediction, values that are missing at random, a strong cause.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.training import Task

Random = np.random.Generator
START: Final = datetime(2024, 1, 1)  # noqa: DTZ001 - the tables have no zone
ALL: Final = "(all columns)"


@dataclass(frozen=True)
class HonestTable:
    """A table without a leak.

    Attributes:
        rows: in the order of time, if there is one.
        lags: honest columns that the guards must recognize as lags of the target.
    """

    rows: pl.DataFrame
    target: str
    task: Task
    time: str | None = None
    entity: str | None = None
    key: tuple[str, ...] = ()
    lags: tuple[str, ...] = ()

    @property
    def honest(self) -> tuple[str, ...]:
        """The columns that may be features."""
        return tuple(it for it in self.rows.columns if it not in (self.target, self.time, *self.key))

    @property
    def strength(self) -> np.ndarray[Any, Any]:
        """The target as numbers."""
        return self.rows[self.target].cast(pl.Float64).to_numpy()


def orders(rows: int) -> HonestTable:
    """Return orders that may be returned, of customers with a habit."""
    random = np.random.default_rng(11)
    minutes = np.sort(random.choice(150 * 1_440, rows, replace=False))
    customer, amount = random.integers(0, rows // 12, rows), random.gamma(2, 40, rows).round(2)
    returned = random.random(rows) < 0.06 + 0.35 * (customer % 5 == 0) + 0.2 * (amount > 120)
    at = pl.Series([START + timedelta(minutes=int(it)) for it in minutes])
    frame = pl.DataFrame({
        "ordered_at": at, "order": random.permutation(rows), "customer": customer, "amount": amount,
        "tier": np.where(customer % 5 == 0, "gold", "basic"), "final_page": random.integers(1, 30, rows),
        "weight": random.normal(900, 250, rows),
        "customer_since": at - pl.Series((customer % 400 + 1) * 86_400_000_000).cast(pl.Duration("us")),
        "coupon": pl.select(pl.when(pl.Series(random.random(rows) < 0.3)).then(pl.lit("C"))).to_series(),
        "returned": returned,
    }).with_columns(returned_before=pl.col("returned").shift(1).over("customer").cast(pl.Int64))  # fmt: skip
    return HonestTable(frame, "returned", "binary", "ordered_at", "customer", ("order",), ("returned_before",))


def demand(rows: int) -> HonestTable:
    """Return hourly demand, of which the hours before say much."""
    random, hour, noise = np.random.default_rng(12), np.arange(rows), np.zeros(rows)
    for n in range(1, rows):
        noise[n] = 0.8 * noise[n - 1] + random.normal(0, 30)
    warm = 12 + 6 * np.sin((hour - 9) % 24 / 24 * 2 * np.pi) + random.normal(0, 2, rows)
    load = (1_000 + 150 * np.sin(hour % 24 / 24 * 2 * np.pi) + 4 * warm + noise).round(2)
    frame = pl.DataFrame({
        "hour": [START + timedelta(hours=int(it)) for it in hour], "clock": hour % 24, "warm": warm.round(2),
        "is_holiday": random.random(rows) < 0.05, "target_price": random.gamma(3, 10, rows).round(2), "load": load,
    }).with_columns(hour_before=pl.col("load").shift(1), day_before=pl.col("load").shift(24))  # fmt: skip
    return HonestTable(frame, "load", "regression", "hour", lags=("hour_before", "day_before"))


def patients(rows: int) -> HonestTable:
    """Return visits of patients, with the urgency of each; there is no time."""
    random = np.random.default_rng(13)
    patient = random.integers(0, rows // 4, rows)
    age, pulse = patient % 70 + 20, random.normal(80, 15, rows).round()
    urgency = np.digitize(0.03 * (age - 50) + 0.05 * (pulse - 80) + random.normal(0, 0.8, rows), [-0.8, 0.8])
    frame = pl.DataFrame({
        "patient": patient, "age": age, "pulse": pulse, "height": random.normal(172, 9, rows),
        "outcome_known_to_gp": random.choice(["yes", "no"], rows), "post_code": random.integers(1_000, 1_040, rows),
        "lactate": pl.Series(random.gamma(2, 1, rows).round(2)).scatter(
            np.flatnonzero(random.random(rows) < 0.4), None
        ),
        "urgency": pl.Series(np.array(["low", "middle", "high"])[urgency]),
    })  # fmt: skip
    return HonestTable(frame, "urgency", "multiclass", entity="patient")


BASES: Final[Mapping[str, Callable[[int], HonestTable]]] = {"orders": orders, "demand": demand, "patients": patients}
Plant = Callable[[HonestTable, Random], pl.DataFrame]


@dataclass(frozen=True)
class Case:
    """One kind of leak.

    Attributes:
        kind: what is planted, as the page names it.
        guards: the guards that may name it.
        plant: returns the table with it; the planted columns are those that the honest table does not have.
        bases: the tables in which there can be such a leak.
        is_noted: whether the guard can only note it, because no column is at fault or a name proves nothing.
    """

    kind: str
    guards: tuple[str, ...]
    plant: Plant
    bases: tuple[str, ...] = ("orders", "demand", "patients")
    is_noted: bool = False


def _codes(table: HonestTable) -> np.ndarray[Any, Any]:
    return table.rows[table.target].rank("dense").to_numpy().astype(np.int64)


def _golden(table: HonestTable, random: Random) -> pl.DataFrame:
    if table.task == "multiclass":  # nine of ten are right
        wrong = random.random(table.rows.height) < 0.1
        return table.rows.with_columns(
            score=pl.Series(np.where(wrong, random.integers(1, 4, len(wrong)), _codes(table)))
        )
    noise = 0.05 if table.task == "regression" else 0.5
    spread = table.strength.std()
    return table.rows.with_columns(
        score=pl.Series(table.strength + random.normal(0, noise * spread, table.rows.height))
    )


def _noisy(table: HonestTable, random: Random) -> pl.DataFrame:
    """Return a score that ranks two rows of different classes right in 97 of 100 cases; of a number, R² 0.88."""
    noise = random.normal(0, 0.376, table.rows.height)
    if table.task == "multiclass":  # a class is one step from the next
        return table.rows.with_columns(score=pl.Series(_codes(table) + noise))
    spread = table.strength.std() if table.task == "regression" else 1.0
    return table.rows.with_columns(score=pl.Series(table.strength + noise * spread))


def _in_some(table: HonestTable, random: Random) -> pl.DataFrame:
    """Return the target with little noise in a random half of the rows, and nothing in the others."""
    return _golden(table, random).with_columns(
        pl.when(pl.Series(random.random(table.rows.height) < 0.5)).then("score").alias("score")
    )


def _in_earlier(table: HonestTable, random: Random) -> pl.DataFrame:
    """Return the target with little noise in the first half of the rows, and values of other rows in the second."""
    rows = _golden(table, random)
    half = rows.height // 2
    values = rows["score"].to_numpy().copy()
    values[half:] = random.permutation(values[half:])
    return rows.with_columns(score=pl.Series(values))


def _later(table: HonestTable, random: Random) -> pl.DataFrame:
    hours = pl.lit(pl.Series(random.integers(20, 300, table.rows.height)))
    return table.rows.with_columns(done_at=pl.col(str(table.time)) + pl.duration(hours=hours))


def _with_later(table: HonestTable, random: Random) -> pl.DataFrame:
    is_closed = pl.Series(random.random(table.rows.height) < 0.6)
    return _later(table, random).with_columns(
        pl.when(is_closed).then("done_at").alias("done_at"),
        grade=pl.when(is_closed).then(pl.Series(random.integers(1, 6, table.rows.height))),
    )


def _parts(table: HonestTable, random: Random) -> pl.DataFrame:
    share = pl.Series(random.uniform(0.2, 0.8, table.rows.height))
    return table.rows.with_columns(private=pl.col(table.target) * share, business=pl.col(table.target) * (1 - share))


def _monotone(table: HonestTable, _: Random) -> pl.DataFrame:
    if table.task == "regression":
        return table.rows.with_columns(index=(pl.col(table.target) - pl.col(table.target).min() + 1).log())
    return table.rows.with_columns(index=pl.Series(_codes(table) ** 3 * 7.5))


def _missing(table: HonestTable, random: Random) -> pl.DataFrame:
    has = _codes(table) == 2 if table.task != "regression" else table.strength > np.median(table.strength)
    return table.rows.with_columns(reason=pl.when(pl.Series(has)).then(pl.Series(random.integers(1, 9, len(has)))))


def _mostly_missing(table: HonestTable, random: Random) -> pl.DataFrame:
    """Return a value that is missing in nine of ten rows of the last class, and in one of twenty others."""
    is_missing = random.random(table.rows.height) < np.where(_codes(table) == _codes(table).max(), 0.9, 0.05)
    return table.rows.with_columns(
        survey=pl.when(~pl.Series(is_missing)).then(pl.Series(random.integers(1, 6, table.rows.height)))
    )


def _flag_of_some(table: HonestTable, random: Random) -> pl.DataFrame:
    """Return a flag that seven of ten rows of one class have, and no others."""
    flag = (_codes(table) == _codes(table).max()) & (random.random(table.rows.height) < 0.7)
    return table.rows.with_columns(escalated=pl.Series(flag))


def _of(table: HonestTable, made: pl.Expr) -> pl.Expr:
    return made.over(table.entity) if table.entity else made


def _marker(table: HonestTable, _: Random) -> pl.DataFrame:
    return table.rows.with_columns(batch=pl.Series([f"b{n // 90:04d}" for n in range(table.rows.height)]))


def _drift(table: HonestTable, random: Random) -> pl.DataFrame:
    """Let the target change its relation to a column that moves with time."""
    place = np.linspace(0, 1, table.rows.height)
    moving = pl.Series(10 * place + random.normal(0, 0.1, len(place)))
    if table.task == "regression":
        wave = pl.Series(1.5 * table.strength.std() * np.sin(9 * place))
        return table.rows.drop(table.lags).with_columns(pl.col(table.target) + wave, price=moving)
    flips = pl.Series(random.random(len(place)) < 0.5 + 0.45 * np.sin(9 * place))
    return table.rows.drop(table.lags).with_columns(flips.alias(table.target), price=moving)


def priced(table: HonestTable, random: Random) -> HonestTable:
    """Return a table of numbers whose target is multiplied by an honest price, which then explains most of it."""
    price = pl.Series(random.gamma(3, 10, table.rows.height).round(2))
    rows = table.rows.drop(table.lags).with_columns((pl.col(table.target) * price).round(2), price=price)
    return replace(table, rows=rows, lags=())


def _repeated(table: HonestTable, random: Random) -> pl.DataFrame:
    twice = pl.Series(random.random(table.rows.height) < 0.15)
    rows = pl.concat([table.rows, table.rows.filter(twice)])
    return rows.sort(table.time, maintain_order=True) if table.time else rows


CASES: Final = (
    Case("golden feature: the target with some noise", ("golden feature",), _golden),
    Case("the target with more noise: ROC AUC 0.97", ("golden feature",), _noisy),
    Case("the target with some noise in half of the rows", ("golden feature",), _in_some, ("orders", "demand")),
    Case("the target with some noise in the earlier half", ("golden feature",), _in_earlier, ("orders", "demand")),
    Case("a time after the prediction", ("known later",), _later, ("orders", "demand")),
    Case("a value that is there when such a time is", ("known later",), _with_later, ("orders", "demand")),
    Case("a copy of the target", ("copy of the target",),
         lambda table, _: table.rows.with_columns(pl.col(table.target).alias("state"))),
    Case("a one-to-one map of the target", ("copy of the target", "identifier"),
         lambda table, _: table.rows.with_columns(
             state=pl.col(table.target).cast(pl.String).map_elements(lambda it: f"x{it[::-1]}", pl.String))),
    Case("a monotone transform of the target", ("copy of the target",), _monotone),
    Case("parts that sum to the target", ("sum of the target",), _parts, ("demand",)),
    Case("an identifier as text", ("identifier",),
         lambda table, _: table.rows.with_columns(
             token=pl.Series([f"t{n * 7_919 % 104_729}" for n in range(table.rows.height)]))),
    Case("a number that counts rows", ("identifier",),
         lambda table, random: table.rows.with_columns(serial=pl.Series(random.permutation(table.rows.height) + 500))),
    Case("missing values in most rows of one class", ("missing values", "golden feature"), _mostly_missing,
         ("orders",)),
    Case("a flag that only rows of one class have, and not all", ("golden feature",), _flag_of_some,
         ("orders", "patients")),
    Case("the target of a later row", ("lag of the target",),
         lambda table, _: table.rows.with_columns(then=pl.col(table.target).shift(-1)), ("demand",)),
    Case("a moving mean that contains the row itself", ("window of the target",),
         lambda table, _: table.rows.with_columns(smooth=pl.col(table.target).rolling_mean(3).round(2)), ("demand",)),
    Case("a running total that contains the row itself", ("window of the target",),
         lambda table, _: table.rows.with_columns(
             so_far=_of(table, pl.col(table.target).cast(pl.Float64).cum_sum())), ("orders", "demand")),
    Case("a marker of time, such as the name of a batch", ("marker of time",), _marker, ("orders", "demand")),
    Case("missing values that depend on the target", ("missing values",), _missing),
    Case("a gap between random and later rows", ("random against time",), _drift, ("orders", "demand"), is_noted=True),
    Case("duplicate rows on both sides", ("duplicate rows",), _repeated, ("orders", "patients"), is_noted=True),
    Case("a name that tells, with honest values", ("name",),
         lambda table, random: table.rows.with_columns(closed_by=pl.Series(random.integers(1, 9, table.rows.height))),
         is_noted=True),
)  # fmt: skip
