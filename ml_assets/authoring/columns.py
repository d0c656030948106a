"""Decides the use and the name of each column of a new table: key, time, target, feature, or left out."""

import functools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl
from slugify import slugify

from ml_assets.contracts.sql import sql_type
from ml_assets.logic.inspection.candidates import LeakFinding
from ml_assets.logic.inspection.roles import Roles

Use = Literal["key", "time", "known time", "target", "label known", "feature", "group", "weight", "left out"]

ROW_KEY: Final = "row_key"
"""The key that landing adds to rows that have none."""
_MOST_WORDS: Final = 4
_MOST_TEXTS: Final = 1_000
_RESERVED: Final = frozenset(
    {
        "day", "snapshot_at", "event_at", "predicted_at", "label_known_at", "event_day", "split", "reason", "score",
        "known_at", "model_version", "hour_of_day", "weekday", "month_of_year", "row_key", "received_at", "gone_at",
        "noise_numeric", "noise_categorical",
    }
)  # fmt: skip


@dataclass(frozen=True)
class NewColumn:
    """A column of a new table.

    Attributes:
        source: its name in the file.
        name: its name in the dbt models.
        why: the reason for its use, as a clause; '' if it is obvious.
        is_code: whether it has whole numbers that are codes of categories.
        is_repeated: whether it is a part of the key that has the same values in other rows, and so a feature too.
    """

    source: str
    name: str
    dtype: pl.DataType
    use: Use
    why: str
    is_code: bool = False
    is_repeated: bool = False

    @property
    def sql_type(self) -> str:
        """Its type in contracts."""
        return sql_type(self.dtype)

    @property
    def is_categorical(self) -> bool:
        """Whether each of its values is a category as a feature: texts and codes."""
        return self.dtype == pl.String or self.is_code

    @property
    def is_time(self) -> bool:
        """Whether it is a date or a time."""
        return self.dtype.is_temporal()

    @property
    def quoted(self) -> str:
        """Its name in the file, as SQL."""
        return '"' + self.source.replace('"', '""') + '"'


def new_columns(
    rows: pl.DataFrame,
    target: str,
    roles: Roles,
    findings: Iterable[LeakFinding],
    codes: Collection[str] = (),
    *,
    names: Mapping[str, str] | None = None,
) -> tuple[NewColumn, ...]:
    """Return the columns of a table in their order. The whole numbers of `codes` are categories.

    Their names in the dbt models are `names`, or safe ones.
    """
    suspects = {it.column: it for it in findings if it.verdict == "left out"}
    names = names or safe_names(rows.columns)
    found = []
    for name in rows.columns:
        use, why = _use(rows[name], target, roles, suspects)
        is_repeated = name not in suspects and _is_repeated(rows[name], roles)
        found.append(NewColumn(name, names[name], rows.schema[name], use, why, name in codes, is_repeated))
    return tuple(found)


def candidates(rows: pl.DataFrame, target: str, roles: Roles) -> tuple[str, ...]:
    """Return the columns that could be features, as far as no guard was asked."""
    return tuple(
        it.name for it in rows if _is_repeated(it, roles) or _use(it, target, roles, {})[0] in ("feature", "group")
    )


def _is_repeated(column: pl.Series, roles: Roles) -> bool:
    """Return whether a column is a part of the key that may be a feature.

    Beside a time, it is for instance the shop of a row for each shop and day. Without a time, it is any part but the
    group, such as the subject of a row for each student and subject.
    """
    key = roles.key.columns if roles.key is not None else ()
    others = {_value(roles.group)} if roles.time is None else {roles.time.value}
    if roles.query is not None or len(key) < 2 or (roles.time is not None and not others <= {*key}):
        return False
    return column.name in {*key} - others and not column.dtype.is_temporal()


def _use(column: pl.Series, target: str, roles: Roles, suspects: Mapping[str, LeakFinding]) -> tuple[Use, str]:
    name = column.name
    roles_of: dict[str | None, Use] = {
        _value(roles.group): "group", _value(roles.label_known): "label known", _value(roles.known): "known time",
        _value(roles.time): "time", _value(roles.weight): "weight",
    }  # fmt: skip
    roles_of |= dict.fromkeys(roles.key.columns if roles.key else (), "key")
    roles_of[target] = "target"
    if name in roles_of:
        return roles_of[name], ""
    if name in suspects:
        return "left out", f"{suspects[name].guard}: {suspects[name].evidence}"
    used = column.drop_nulls()
    if used.n_unique() < 2 and not (used.len() and column.null_count()):
        return "left out", "it has one value" if used.len() else "it has no value"
    if column.dtype == pl.String and used.n_unique() > _MOST_TEXTS and _words(used) > _MOST_WORDS:
        return "left out", "it is free text, which is not supported"
    return "feature", ""


def _value(choice: object) -> str | None:
    return getattr(choice, "value", None)


def _words(texts: pl.Series) -> float:
    return float(texts.head(10_000).str.count_matches(r"\S+").mean() or 0.0)  # type: ignore[arg-type]


def safe_names(columns: Sequence[str]) -> dict[str, str]:
    """Return a name for each column that SQL, dbt and the engine accept without quotes; all are different."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for column in columns:
        found[column] = _free(_plain_name(column), taken)
        taken.add(found[column])
    return found


def _plain_name(column: str) -> str:
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", column)
    name = slugify(split, separator="_") or "field"
    name = f"c_{name}" if name[0].isdigit() else name
    is_taken = name in _RESERVED or name in _keywords() or name.startswith("score_")
    return f"{name}_value" if is_taken else name


@functools.cache
def _keywords() -> frozenset[str]:
    """Return the words that DuckDB does not accept as a column without quotes."""
    from ml_assets.warehouse.duckdb_session import connect

    asked = "select keyword_name from duckdb_keywords() where keyword_category in ('reserved', 'type_function')"
    with connect() as connection:
        return frozenset(word for (word,) in connection.execute(asked).fetchall())


def _free(name: str, taken: Collection[str]) -> str:
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free
