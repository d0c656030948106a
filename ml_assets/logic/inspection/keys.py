"""Which columns identify a row, and which says what thing or person a row belongs to."""

import re
from collections.abc import Collection, Sequence
from typing import Final

import polars as pl

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.words import counted
from ml_assets.logic.inspection.choices import Choice, Confidence

_ID_NAME: Final = re.compile(r"(?i)(^|_)(id|key|uuid|guid|no|nr|number|code|index)($|_)|id$")
_OWNER: Final = (
    "patient|customer|client|user|person|subject|account|household|family|device|machine|session|store|shop|site|"
    "hospital|school|company|vehicle|player|team|member|student|employee"
)
_OWNER_NAME: Final = re.compile(
    rf"(?i)(^|_)({_OWNER})s?(_?(id|uuid|guid|key|code|name|number|nbr|nr|no))?(_[0-9]+)?$|(^|_)(id|uuid|guid)$|^id_"
)
_NEARLY_ALL: Final = 0.9
_FEWEST_REPEATS: Final = 5
_MOST_OF_KEY: Final = 3


def row_key_of(rows: pl.DataFrame, target: str, given: Sequence[str], time: str | None) -> Choice | None:
    """Return the columns that identify a row; None if no one to three columns do."""
    if given:
        if lacking := [name for name in given if rows[name].null_count()]:
            raise DataError(
                f"--key {', '.join(given)} has no value of {lacking[0]} in "
                f"{counted(rows[lacking[0]].null_count(), 'row')}; expected one in each row. Fill it in, remove these "
                "rows, or name other columns."
            )
        twice = rows.height - rows.select(given).n_unique()
        if twice:
            raise DataError(
                f"--key {', '.join(given)} is the same in {twice:,} rows as in another; expected each once."
            )
        return _key_of(given, "--key or the contract of the table says so", "given")
    usable = [it for it in rows if it.name != target and not it.dtype.is_float() and it.null_count() == 0]
    unique = [it.name for it in usable if it.n_unique() == rows.height]
    named = [name for name in unique if _ID_NAME.search(words_of(name))]
    if named:
        return _key_of(named[:1], f"each of its {rows.height:,} values occurs once", "sure", tuple(named[1:]))
    if unique:
        first = next((it for it in unique if it != time), unique[0])
        return _key_of([first], f"each of its {rows.height:,} values occurs once; it is not named as a key", "likely")
    if found := _together(rows, [it.name for it in usable], time):
        return _key_of(found, "no two rows have the same values in all of them", "likely")
    for column in usable:
        if _ID_NAME.search(words_of(column.name)) and column.n_unique() > _NEARLY_ALL * rows.height:
            shared = column.filter(column.is_duplicated())
            raise DataError(
                f"'{column.name}' seems to identify a row, but {shared.len():,} rows share its value with another, "
                f"such as {shared.unique().sort().head(3).to_list()}. Remove duplicate rows, or name the columns that "
                "identify a row with --key A,B."
            )
    return None


def _key_of(columns: Sequence[str], why: str, confidence: Confidence, others: tuple[str, ...] = ()) -> Choice:
    return Choice(", ".join(columns), why, confidence, others, tuple(columns))


def _together(rows: pl.DataFrame, usable: Sequence[str], time: str | None) -> list[str]:
    """Return up to three columns that together identify a row; columns named as identifiers are preferred.

    Without such a name, a column counts only if it would often repeat by chance; beside exact times, any one differs.
    """
    found = [] if time is None else [time]
    while len(found) < _MOST_OF_KEY:
        rest = [it for it in usable if it not in found]
        if not rest:
            break
        distinct = {it: rows.select(*found, it).n_unique() for it in rest}
        named = {it: bool(_ID_NAME.search(words_of(it)) or _OWNER_NAME.search(words_of(it))) for it in rest}
        best = max(rest, key=lambda it: (distinct[it] == rows.height, named[it], distinct[it]))
        if distinct[best] == rows.height and not (named[best] or _repeats_by_chance(rows, found, best)):
            return []
        found.append(best)
        if distinct[best] == rows.height:
            return [*found[1:], found[0]] if time is not None else found
    return []


def _repeats_by_chance(rows: pl.DataFrame, found: Sequence[str], column: str) -> bool:
    """Return whether a column that is independent of the others would repeat within their values several times."""
    if not found:
        return True
    pairs = rows.group_by(found).len().select((pl.col("len") * (pl.col("len") - 1) / 2).sum()).item()
    alike = rows[column].value_counts()["count"] / rows.height
    return bool(pairs * (alike**2).sum() >= _FEWEST_REPEATS)


def group_of(
    rows: pl.DataFrame, target: str, given: str | None, key: Choice | None, time: Choice | None
) -> Choice | None:
    """Return the column of the person or thing that several rows belong to."""
    if given is not None:
        if missing := rows[given].null_count():
            raise DataError(
                f"--group is '{given}', which is missing in {missing:,} of {rows.height:,} rows; expected a value in "
                "every row. Fill it in, remove these rows, or name another column."
            )
        return Choice(given, "--group says so", "given")
    own = key.columns if key and len(key.columns) == 1 else ()
    return owner_of(rows, {target, *own, *([time.value] if time else ())})


def is_named_as_key(name: str) -> bool:
    """Return whether a name is that of an identifier or a code."""
    return _ID_NAME.search(words_of(name)) is not None


def owner_of(rows: pl.DataFrame, taken: Collection[str]) -> Choice | None:
    """Return the first column that is named as a person or thing that several rows belong to, of those not taken."""
    for it in rows:
        if it.name in taken or it.null_count() or not _OWNER_NAME.search(words_of(it.name)):
            continue
        if it.dtype.is_float() or it.dtype.is_temporal():
            continue
        distinct = it.n_unique()
        if 20 <= distinct <= rows.height / 2:
            why = f"{distinct:,} values in {rows.height:,} rows, and its name is that of a person or thing"
            return Choice(it.name, why, "uncertain")
    return None


def words_of(name: str) -> str:
    """Return the words of a column's name, separated by underscores."""
    return re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name)).strip("_")
