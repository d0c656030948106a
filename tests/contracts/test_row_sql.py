"""Expressions over the rows of a source, validated when contracts are read: DuckDB resolves the names."""

from pathlib import Path

import pytest

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.contracts.row_sql import RowSql
from ml_assets.landing.row_sql import sql_problems, sql_problems_once
from tests.contracts.test_from_dbt import column, project, source

ELSEWHERE = "which is not one of its columns; expected some of id, Name, weight kg, moment"
NO_FILES = 'Cannot access file "a.csv" - file system operations are disabled by configuration'


def reported(**meta: str) -> list[str]:
    """Return what is reported of a source with this meta in its column `seen_at`; its other columns are fixed."""
    rows = source(
        column("id", "bigint"), column("Name", "varchar"), column("weight kg", "double"), column("moment", "timestamp"),
        column("later", "timestamp", meta={"expression": "moment + interval '1 day'"}),
        column("seen_at", "timestamp", meta=meta), key=["id"], known_time="always",
    )  # fmt: skip
    try:
        contracts_from_dbt(project(sources=(rows,)), sql_problems=sql_problems)
    except ContractError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize(
    "sql",
    [
        "moment", "MOMENT", '"moment"', "cast(name as timestamp)", 'moment + "Weight KG" * interval 1 second',
        "cast(current_date as timestamp)", "case when id > 0 then moment end",
        "try_cast(struct_pack(x := name).x as timestamp)",
        "list_max(list_transform([1, 2], lambda hour: moment + hour * interval 1 hour))",
        "coalesce(rows.moment, timestamp '2024-01-01')", "make_timestamp(2024, 1, 1, 0, 0, 0) -- the day of the move",
        "(select max(t) from unnest([moment, timestamp '2024-01-01']) as u(t))",
    ],
)  # fmt: skip
def test_sql_that_works_over_the_columns_of_a_source_is_accepted(sql: str) -> None:
    assert reported(known_time=sql) == []
    assert reported(expression=sql) == []


def test_a_known_time_may_use_computed_columns_and_an_expression_may_not() -> None:
    assert reported(known_time="later") == []

    (refusal,) = reported(expression="LATER")
    assert refusal.endswith("names column 'LATER', which landing computes; replace it by its expression; got: LATER.")


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("momment", f"names column 'momment', {ELSEWHERE} (did you mean 'moment'?)"),
        ('cast("wieght kg" as timestamp)', f"names column 'wieght kg', {ELSEWHERE} (did you mean 'weight kg'?)"),
        ("moment +", "cannot be evaluated: it is incomplete"),
        ("moment + * 2", 'cannot be evaluated: syntax error at or near "2", at character 12'),
        ("'äöü' || + * 2", 'cannot be evaluated: syntax error at or near "2", at character 14'),
        ("moment); drop table rows; select (1", "is more than one expression"),
        ("moment), (id", "is more than one expression"),
        (
            "to_timestmp(id)",
            "cannot be evaluated: Scalar Function with name to_timestmp does not exist, at character 1",
        ),
        ("id", "gives bigint; expected timestamp, by cast(... as timestamp)"),
        ("to_timestamp(id)", "gives timestamp with time zone; expected timestamp, by cast(... as timestamp)"),
        ("max(moment)", "aggregates over rows; expected a value for each single row"),
        ("(select x from read_csv('a.csv'))", f"cannot be evaluated: {NO_FILES}, at character 16"),
    ],
)
def test_sql_that_can_work_for_no_row_is_refused_with_the_expression_and_the_cause(sql: str, problem: str) -> None:
    assert reported(expression=sql) == [
        f"models/_shop.yml: expression of column 'seen_at' of table 'raw/orders' {problem}; got: {sql}."
    ]


def test_sql_is_not_validated_again_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validated: list[RowSql] = []
    checked = tmp_path / "checked"

    def contracts(sql: str) -> None:
        rows = source(column("moment", "timestamp"), key=["moment"], known_time=sql)
        contracts_from_dbt(project(sources=(rows,)), sql_problems=lambda of: sql_problems_once(of, checked))

    monkeypatch.setattr("ml_assets.landing.row_sql.sql_problems", lambda of: validated.extend(of) or sql_problems(of))
    contracts("moment + interval 1 day")
    contracts("moment + interval 1 day")
    assert [one.sql for one in validated] == ["moment + interval 1 day"]
    sql_problems_once([], checked)  # a project without any SQL
    contracts("moment + interval 2 day")
    contracts("moment + interval 1 day")
    assert [one.sql for one in validated] == ["moment + interval 1 day", "moment + interval 2 day"]
    validated.clear()

    for _ in range(2):  # what is wrong stays wrong
        with pytest.raises(ContractError, match="names column 'nope'"):
            contracts("nope")
    assert [one.sql for one in validated] == ["nope", "nope"]
