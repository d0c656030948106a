"""Functions and contracts that declarations in tests name, as a person would write them."""

import sys

import numpy as np
import pandera.polars as pa
import polars as pl

from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.gate_result import GateResult


class Loads(pa.DataFrameModel):
    """The contract of `loads`."""

    weight_per_item: float = pa.Field(ge=0, nullable=True, description="Weight of one item.", metadata={"unit": "kg"})
    size: str = pa.Field(isin=["large", "small"])

    @pa.check("weight_per_item")
    def is_plausible(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805 - pandera makes it a class method
        return data.lazyframe.select(pl.col(data.key).fill_null(0) < 1000)


def loads(rows: pl.DataFrame) -> pl.DataFrame:
    """Return two columns of each row alone."""
    items = pl.col("items")
    return rows.select(
        "order_id",
        weight_per_item=pl.when(items > 0).then(pl.col("weight kg").abs() / items),
        size=pl.when(items > 5).then(pl.lit("large")).otherwise(pl.lit("small")),
    )


def negative_loads(rows: pl.DataFrame) -> pl.DataFrame:
    return loads(rows).with_columns(weight_per_item=pl.lit(-1.0), size=pl.lit("huge"))


def half_of_loads(rows: pl.DataFrame) -> pl.DataFrame:
    return loads(rows).drop("size")


def loads_in_place(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the same columns in the frame that it got, which lacks a column and has another value then."""
    found = loads(rows)
    rows[0, "items"] = 99
    rows.drop_in_place("weight kg")
    for name in ("weight_per_item", "size"):
        rows.insert_column(rows.width, found[name])
    return rows.drop("items")


def loads_and_items(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(loads(rows).drop("order_id"), items=pl.lit(0, pl.Int64))


def nan_loads(rows: pl.DataFrame) -> pl.DataFrame:
    return loads(rows).with_columns(weight_per_item=pl.lit(float("nan")))


def text_loads(rows: pl.DataFrame) -> pl.DataFrame:
    return loads(rows).with_columns(weight_per_item=pl.lit("1"))


def lazy_loads(rows: pl.DataFrame) -> pl.LazyFrame:
    return loads(rows).lazy()


class Share(pa.DataFrameModel):
    """The contract of a single share."""

    share: float = pa.Field(nullable=True)


def share_of_day(rows: pl.DataFrame) -> pl.DataFrame:
    """Return a leak: the sum over the day includes later rows."""
    delay = pl.col("origin_departure_delay_minutes_3h")
    return rows.select("flight_id", share=delay / delay.sum())


def ratio_of_row(rows: pl.DataFrame) -> pl.DataFrame:
    """Return what each row knows itself."""
    return rows.select(
        "flight_id", share=pl.col("origin_departure_delay_minutes_3h") - pl.col("origin_departure_delay_minutes_24h")
    )


class Redefined(pa.DataFrameModel):
    """A contract with a column of the table."""

    items: int


class Unsuitable(pa.DataFrameModel):
    """A contract with a type that no contract supports."""

    spent: pl.Duration


def enough_precision(evaluation: Evaluation) -> GateResult:
    """Return whether average precision is at least 1.2 times the rate of positives."""
    precision, rate = evaluation.summary.metrics["average_precision"].value, evaluation.summary.target_mean
    return GateResult(
        holds=precision >= 1.2 * rate,
        sentence=f"Average precision is {precision / rate:.2f} times the rate.",
        figures={"precision": np.float64(precision), "rate": rate},
    )


def never(evaluation: Evaluation) -> GateResult:
    evaluation.summary.metrics.clear()
    evaluation.slices.drop_in_place("rows")
    return GateResult(holds=np.bool_(False), sentence=" Never, on\nany evaluation. ")


def broken_rule(evaluation: Evaluation) -> GateResult:
    return GateResult(evaluation.summary.metrics["nothing"].value > 0, "It is good.")


def exiting_rule(evaluation: Evaluation) -> GateResult:
    sys.exit(0)


def bare_verdict(evaluation: Evaluation) -> bool:
    return True


def doubtful(evaluation: Evaluation) -> GateResult:
    return GateResult(holds="no", sentence="It is bad.")


def wordless(evaluation: Evaluation) -> GateResult:
    return GateResult(holds=True, sentence=" ")


def unmeasured(evaluation: Evaluation) -> GateResult:
    return GateResult(holds=True, sentence="It is good.", figures={"share": float("nan")})


def no_rule() -> None:
    """Take nothing."""
