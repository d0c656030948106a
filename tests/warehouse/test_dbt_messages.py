"""What is passed on of dbt's messages where a project has personal columns."""

from typing import Any

import pytest

from ml_assets.warehouse.dbt_messages import DbtOutput, without_dbts_macros, without_values
from ml_assets.warehouse.nodes import has_personal

LINES = [
    "10:28:51  1 of 2 ERROR creating sql by_day model main.people ... [ERROR in 0.1s]",
    "10:28:51  Runtime Error in model people (models/people.sql)",
    '  Invalid Input Error: Could not parse string "Jane Roe" according to format specifier "%Y"',
    "  Jane Roe",
    "  ^",
    "10:28:52  Done. PASS=1 ERROR=1",
]


def passed_on(*, hides: bool) -> list[str]:
    lines: list[str] = []
    output = DbtOutput(lines.append, hides=hides)
    for line in LINES:
        output(line)
    assert lines == output.lines
    return lines


def test_values_of_rows_are_removed_with_their_continuation_lines_where_something_is_personal() -> None:
    hidden = "  Invalid Input Error over the values of a row, which are not shown: the project has personal columns"

    assert [*LINES[:2], hidden, LINES[5]] == passed_on(hides=True)
    assert LINES == passed_on(hides=False)


def test_a_message_of_several_lines_ends_where_values_begin() -> None:
    assert "Runtime Error\n  Conversion Error over the values of a row, which are not shown: " in without_values(
        "Runtime Error\n  Conversion Error: Could not convert string 'Jane Roe' to INT32\n\nLINE 1: select"
    )
    assert "Binder Error: column 'nmae'" == without_values("Binder Error: column 'nmae'")


@pytest.mark.parametrize("column", [{"meta": {"pii": True}}, {"config": {"meta": {"pii": True}}}])
def test_a_column_is_personal_in_either_place_of_dbts_manifest(column: dict[str, Any]) -> None:
    assert has_personal({"test": {}, "model": {"columns": {"name": column}}})
    assert not has_personal({"test": {}, "model": {"columns": {"name": {}, "n": {"meta": {"pii": False}}}}})


def test_a_broken_contract_is_reported_without_dbts_macros() -> None:
    found = [
        "Compilation Error in model shops (models/shops.sql)",
        "  This model has an enforced contract that failed.",
        "  | rentals | BIGINT | VARCHAR | data type mismatch |",
    ]
    trace = [
        "  ",
        "  > in macro assert_columns_equivalent (macros/columns.sql)",
        "  > called by model shops (shops.sql)",
    ]

    assert "\n".join(found) == without_dbts_macros("\n".join([*found, *trace]))


def test_the_macros_of_another_error_are_shown() -> None:
    message = "Compilation Error in model shops\n  > in macro recent (macros/recent.sql)"

    assert message == without_dbts_macros(message)
