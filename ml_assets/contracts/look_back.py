"""Check the declared look-back of a dbt model against what the model reads."""

import re
from collections.abc import Sequence
from typing import Final

from ml_assets.contracts.dbt_yaml import ErrorCollector, Table, meta_of
from ml_assets.contracts.errors import near

_COMMENT: Final = re.compile(r"\{#.*?#\}|--[^\n]*|/\*.*?\*/", re.DOTALL)
_LOOK_BACK: Final = re.compile(r"\blook_back_first_day\(\s*(?:days\s*=\s*)?(\d+)\s*\)")


def check_look_back(table: Table, parents: Sequence[str], errors: ErrorCollector) -> None:
    """Compare the declared look-back with the parents of a model and with the days that its SQL reads.

    Only literal numbers in the model's own SQL are found, not those in macros or variables.
    """
    declared = meta_of(table.node).get("look_back_days") or {}
    if not isinstance(declared, dict) or not all(isinstance(days, int) and days >= 0 for days in declared.values()):
        return  # reported with the other errors of its meta
    for name in (name for name in declared if name not in parents):
        expected = f"one of {', '.join(parents)}{near(name, parents)}" if parents else "no name: it reads no table"
        errors.add(
            table.place("meta", "look_back_days", name),
            f"table '{table.name}' has look_back_days for '{name}', which it does not read; expected {expected}.",
        )
    sql = _COMMENT.sub(" ", table.node.get("raw_code") or "")
    used, most = max(map(int, _LOOK_BACK.findall(sql)), default=0), max(declared.values(), default=0)
    if used > most:
        errors.add(
            table.place("meta", "look_back_days"),
            f"the SQL of table '{table.name}' uses look_back_first_day({used}), but its look_back_days declare "
            f"at most {most}; declare {used} for the table that it reads this way, or look back fewer days.",
        )
