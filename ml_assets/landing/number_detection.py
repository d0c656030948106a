"""Detects the decimal mark and the mark of thousands of a CSV file.

Every pair of marks is tried with the conversion that lands the file. A pair is not tried where it cannot read otherwise
than another one.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import polars as pl

from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.text_values import values

_Marks = tuple[Literal[".", ","], str | None]
NUMBER_MARKS: Final[Sequence[_Marks]] = (
    (".", None),
    (".", ","),
    (",", None),
    (",", "."),
    (",", " "),
    (".", " "),
    (".", "'"),
    (",", "\u00a0"),
)
_LIKE_NUMBERS: Final = "^ *[+-]?[0-9.,' \u00a0]*[0-9][0-9.,' \u00a0]*([eE][+-]?[0-9]+)? *$"
_WHOLE: Final = "^ *[+-]?[0-9]+ *$"
_FEW: Final = 200


def reads(text: pl.Series, dtype: pl.DataType, dialect: CsvDialect, form: str | None = None) -> bool:
    """Return whether every text is a value of a type; the first few are tried before all."""
    return all(values(some, dtype, dialect, form).null_count() == some.null_count() for some in (text.head(_FEW), text))


def resembles_numbers(text: pl.Series) -> bool:
    """Return whether the first few texts have only digits and marks, so that they may be numbers in some dialect."""
    return bool(text.head(_FEW).str.contains(_LIKE_NUMBERS).all())


def number_dialect(marks: _Marks) -> CsvDialect:
    """Return the dialect with some marks."""
    return CsvDialect.model_validate({"decimal": marks[0], "thousands": marks[1]})


def number_marks(text: pl.DataFrame) -> tuple[Literal[".", ","], str | None, tuple[str, ...]]:
    """Return the decimal mark and the mark of thousands with which the most columns are numbers, and doubts."""
    used = [it.drop_nulls() for it in text]
    # Whole numbers without a mark are the same numbers with every pair of marks.
    columns = [it for it in used if it.len() and resembles_numbers(it) and not it.str.contains(_WHOLE).all()]
    each = [_readings(it.unique(maintain_order=True)) for it in columns]
    read = {marks: {name: its[marks] for name, its in each if its.get(marks) is not None} for marks in NUMBER_MARKS}
    most = max(map(len, read.values()))
    chosen, *others = [marks for marks, numbers in read.items() if len(numbers) == most]
    doubts = [
        f"numbers such as {_differing(read[chosen], read[marks])} could have the decimal mark {marks[0]!r}"
        for marks in others
        if marks[0] != chosen[0] and _differing(read[chosen], read[marks])
    ]
    return *chosen, tuple(doubts[:1])


def _readings(text: pl.Series) -> tuple[str, dict[_Marks, pl.DataFrame | None]]:
    """Return the name of a column, and its texts with their numbers by marks; None where a text is no number."""
    occurring = {mark for _, mark in NUMBER_MARKS if mark and text.str.contains(mark, literal=True).any()}
    found: dict[_Marks, pl.DataFrame | None] = {}
    for decimal, thousands in NUMBER_MARKS:
        alike: _Marks = (decimal, thousands if thousands in occurring else None)
        if alike not in found:
            found[alike] = _numbers(text, number_dialect(alike))
        found[decimal, thousands] = found[alike]
    return text.name, found


def _numbers(text: pl.Series, dialect: CsvDialect) -> pl.DataFrame | None:
    if values(text.head(_FEW), pl.Float64(), dialect, None).null_count():
        return None
    numbers = values(text, pl.Float64(), dialect, None)
    return None if numbers.null_count() else pl.DataFrame({"text": text, "number": numbers})


def _differing(one: Mapping[str, pl.DataFrame | None], other: Mapping[str, pl.DataFrame | None]) -> str | None:
    """Return a text that is two different numbers; None if there is none."""
    for name in one.keys() & other.keys():
        mine, its = one[name], other[name]
        if mine is not None and its is not None and mine is not its:
            differs = mine.filter(mine["number"] != its["number"])
            if differs.height:
                return repr(differs["text"][0])
    return None
