"""What hypothesis makes: contracts of all kinds of rules, and rows that keep them, or may break them."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import polars as pl
from hypothesis import strategies as st

from ml_assets.contracts.table import Column, Relationship, TableContract

SHOPS = pl.DataFrame({"shop": [1, 2, 3, 5, 8]}, schema={"shop": pl.Int64})
OTHERS = {"shops": SHOPS}
WHOLE = {pl.Int8(): 7, pl.Int32(): 31, pl.Int64(): 63}
TYPES = (*WHOLE, *[pl.Float32(), pl.Float64()] * 2, pl.String(), pl.Boolean(), pl.Date(), pl.Datetime("us"))
Draw = Callable[[st.SearchStrategy[Any]], Any]


def any_value(dtype: pl.DataType, *, is_finite: bool = False) -> st.SearchStrategy[Any]:
    """Any value of a type, NaN and infinity among them unless it must be finite."""
    if dtype in WHOLE:
        return st.integers(-(2 ** WHOLE[dtype]), 2 ** WHOLE[dtype] - 1) | st.integers(-9, 9)
    if dtype in {pl.Float32(), pl.Float64()}:
        width = 32 if dtype == pl.Float32 else 64
        finite = st.floats(width=width, allow_nan=False, allow_infinity=False) | st.integers(-9, 9).map(float)
        return finite if is_finite else finite | st.sampled_from([math.nan, math.inf, -math.inf])
    return {
        pl.String(): st.text(max_size=3),
        pl.Boolean(): st.booleans(),
        pl.Date(): st.dates(date(1900, 1, 1), date(2100, 1, 1)),
        pl.Datetime("us"): st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001 - UTC, as everywhere
    }[dtype]


def good_value(column: Column) -> st.SearchStrategy[Any]:
    """Any value that keeps a column's rules; null among them where it may be."""
    dtype = column.dtype
    values = any_value(dtype, is_finite=True)
    if column.relationship is not None:
        values = st.sampled_from(SHOPS["shop"].to_list())
    elif column.accepted_values is not None:
        values = st.sampled_from(column.accepted_values)
    elif column.minimum is not None or column.maximum is not None:
        low, high = column.minimum, column.maximum
        if dtype in WHOLE:
            least, most = -(2 ** WHOLE[dtype]), 2 ** WHOLE[dtype] - 1
            values = st.integers(int(least if low is None else low), int(most if high is None else high))
        else:
            width = 32 if dtype == pl.Float32 else 64
            values = st.floats(low, high, width=width, allow_nan=False, allow_infinity=False)
    return values | st.none() if column.is_nullable else values


@st.composite
def columns(draw: Draw, name: str) -> Column:
    """Any column: at most one of accepted values, range and relationship, so that some value keeps them."""
    dtype = draw(st.sampled_from(TYPES))
    more: dict[str, Any] = {}
    accepts = dtype not in {pl.Date(), pl.Datetime("us")}
    kind = draw(st.sampled_from(["", "accepted" if accepts else "", "range" if dtype.is_numeric() else "", "shop"]))
    if kind == "accepted":
        more["accepted_values"] = tuple(
            draw(st.lists(any_value(dtype, is_finite=True), min_size=1, max_size=3, unique=True))
        )
    elif kind == "range":
        ends = sorted(draw(st.lists(any_value(dtype, is_finite=True), min_size=2, max_size=2, unique=True)))
        more["minimum"], more["maximum"] = draw(st.sampled_from([ends, [ends[0], None], [None, ends[1]]]))
    elif kind == "shop":
        dtype, more["relationship"] = pl.Int64(), Relationship("shops", "shop")
    return Column(name, dtype, is_nullable=draw(st.booleans()), is_unique=draw(st.booleans()), **more)


@st.composite
def contracts(draw: Draw) -> TableContract:
    """Any contract of one to four columns."""
    names = "abcd"[: draw(st.integers(1, 4))]
    group = st.lists(st.sampled_from(names), min_size=2, max_size=3, unique=True).map(tuple)
    together = draw(st.lists(group, max_size=2, unique_by=frozenset)) if len(names) > 1 else []
    return TableContract(
        "orders",
        tuple(draw(columns(name)) for name in names),
        key=draw(st.sampled_from([(), (names[0],), *together])),
        unique_together=tuple(together),
    )


def any_frame(contract: TableContract) -> st.SearchStrategy[pl.DataFrame]:
    """Any few rows of a contract's columns and types."""
    row = st.tuples(*(good_value(column) | any_value(column.dtype) | st.none() for column in contract.columns))
    rows = st.lists(row, max_size=5)
    doubled = st.tuples(rows, rows).map(lambda both: [*both[0], *both[1], *both[0][:1]])
    return (rows | doubled).map(lambda rows: frame(rows, contract))


def frame(rows: Sequence[Sequence[object]], contract: TableContract) -> pl.DataFrame:
    """Return rows as a frame of a contract's columns."""
    return pl.DataFrame(rows, schema=contract.schema, orient="row")


NAN = "NaN"


def _comparable(value: object) -> Any:
    """Return a value, or NaN as what is equal to itself."""
    return NAN if isinstance(value, float) and math.isnan(value) else value


def broken_by_hand(frame: pl.DataFrame, contract: TableContract) -> Mapping[str, int]:
    """Return how many rows break each rule, worked out row by row in plain Python."""
    rows = frame.to_dicts()
    shops = set(SHOPS["shop"])
    found = {}
    for rule in contract.rules[1:]:  # the first is about columns and types, which these rows have
        values = [tuple(_comparable(row[name]) for name in rule.columns) for row in rows]
        there = [value for value in values if len(value) > 1 or value[0] is not None]
        match rule.kind:
            case "not_null":
                broken = len(values) - len(there)
            case "finite":
                broken = sum(value == NAN or math.isinf(value) for (value,) in there)
            case "accepted_values":
                broken = sum(value not in rule.accepted_values for (value,) in there)
            case "relationship":
                broken = sum(value not in shops for (value,) in there)
            case "range":
                broken = sum(
                    (rule.maximum is not None)  # NaN is above all numbers
                    if value == NAN
                    else (rule.minimum is not None and value < rule.minimum)
                    or (rule.maximum is not None and value > rule.maximum)
                    for (value,) in there
                )
            case _:
                broken = sum(there.count(value) > 1 for value in there)
        if broken:
            found[rule.name] = broken
    return found
