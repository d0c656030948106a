"""A column of a dbt model that is written: the SQL that selects it, and its line in the contract."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

EXAMPLES: Final[Mapping[str, str]] = {
    "boolean": "True",
    "bigint": "1",
    "double": "1.0",
    "varchar": '"a"',
    "date": "DAY",
    "timestamp": "EVENT",
}
"""A value of each type, as Python in the test that is written."""


@dataclass(frozen=True)
class SelectedColumn:
    """A column of a dbt model: the SQL that selects it, and its line in the contract."""

    name: str
    sql: str
    sql_type: str
    role: str = ""
    is_categorical: bool = False
    rules: tuple[str, ...] = ()

    @property
    def declared_type(self) -> str:
        """Its type in the contract; nothing for a column that is selected as it is, which has the type of its table."""
        return "" if self.sql == self.name else f", data_type: {self.sql_type}"

    @property
    def tests(self) -> str:
        """The end of its line in the contract."""
        return f", data_tests: [{', '.join(self.rules)}]" if self.rules else ""

    @property
    def example(self) -> str:
        """A list of one value, as Python."""
        return f"[{'KNOWN' if self.role == 'known_time' else EXAMPLES[self.sql_type]}]"


def selected_moment(name: str, sql: str, role: str = "") -> SelectedColumn:
    """Return a time that is never missing."""
    return SelectedColumn(name, name if sql == name else f"{sql} as {name}", "timestamp", role, rules=("not_null",))
