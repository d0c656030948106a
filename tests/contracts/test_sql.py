import math

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.contracts.checking import broken_row_rules
from ml_assets.contracts.sql import broken_predicates
from ml_assets.contracts.table import Column, Relationship, TableContract
from ml_assets.warehouse.duckdb_session import connect

SHOPS = pl.DataFrame({"shop": ["a", "it's", None]})
CONTRACT = TableContract(
    "orders",
    (
        Column("n", pl.Int64(), is_nullable=False, minimum=0, maximum=2.5),
        Column("x", pl.Float64(), minimum=-0.5),
        Column("y", pl.Float32(), is_nullable=False, maximum=2.5),
        Column("z", pl.Float64(), accepted_values=(1.0, 2.5)),
        Column("word", pl.String(), accepted_values=("a", "it's")),
        Column("digit", pl.Int64(), accepted_values=(1, 2)),
        Column("flag", pl.Boolean(), accepted_values=(True,)),
        Column("a shop", pl.String(), relationship=Relationship("shops", "shop")),
        Column("warned", pl.Int64(), is_nullable=False),
    ),
    warnings=frozenset({"warned is never missing"}),
)
VALUES = {
    "n": st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 3),
    "x": st.floats(width=64) | st.sampled_from([-0.5, -0.0, math.nan, math.inf, -math.inf]),
    "y": st.floats(width=32) | st.sampled_from([2.5, math.nan, math.inf, -math.inf]),
    "z": st.sampled_from([1.0, 2.5, math.nan, math.inf]),
    "word": st.sampled_from(["a", "it's", "b"]),
    "digit": st.integers(0, 3),
    "flag": st.booleans(),
    "a shop": st.sampled_from(["a", "it's", "z"]),
    "warned": st.integers(0, 1),
}


@settings(max_examples=40)
@given(
    rows=st.lists(
        st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), min_size=1, max_size=8
    )
)
def test_the_warehouse_and_polars_agree_on_the_rules_that_each_row_breaks(rows: list[dict[str, object]]) -> None:
    frame = pl.DataFrame(rows, schema=CONTRACT.schema)
    expected = frame.select(broken_row_rules(CONTRACT, others={"shops": SHOPS}).alias("rules"))["rules"].to_list()

    predicates = broken_predicates(CONTRACT, relations={"shops": "shops"})
    with connect() as engine:
        engine.register("orders", frame.with_row_index("row").to_arrow())
        engine.register("shops", SHOPS.to_arrow())
        columns = ", ".join(predicates.values())
        found = engine.sql(f"select {columns} from orders order by row").fetchall()  # noqa: S608 - the contract's own SQL

    actual = [[rule for rule, is_broken in zip(predicates, row, strict=True) if is_broken] for row in found]
    assert expected == actual
    assert not any(value is None for row in found for value in row)


def test_relationships_to_tables_that_are_not_there_and_warnings_are_left_out() -> None:
    names = [*broken_predicates(CONTRACT, relations={})]

    assert len([rule for rule in CONTRACT.rules if rule.is_row_rule]) - 2 == len(names)
    assert not any("shop" in name or "warned" in name for name in names)
