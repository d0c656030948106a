"""Detects how a text file is written: encoding and marks of CSV, missing values, type and format of each column.

Every candidate is tried with the reader that later lands the file, so a detected format is one that reads it. Landing
itself never detects anything: what is found here is written into the declaration.
"""

import codecs
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import polars as pl
from charset_normalizer import from_bytes

from ml_assets.contracts.errors import DataError
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.csv_files import read_text
from ml_assets.landing.csv_records import CsvError
from ml_assets.landing.extra_lines import MOST_AT_THE_END, check_ends, lines_above_header
from ml_assets.landing.number_detection import NUMBER_MARKS, number_dialect, number_marks, reads, resembles_numbers
from ml_assets.landing.number_formats import find_number_format, plain_numbers
from ml_assets.landing.text_values import MISSING, values
from ml_assets.landing.time_detection import (
    doubt_of_days,
    doubt_of_time,
    doubt_of_unix,
    find_format_of_digits,
    find_time_formats,
    find_unix_unit,
    has_short_years,
)

_SAMPLE: Final = 1 << 20
_ASCII: Final = bytes(range(128))
_FOREIGN: Final = 0.1
_BYTE_ORDER_MARKS: Final = {
    codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
_ENCODINGS: Final = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr",
)  # fmt: skip
_DELIMITERS: Final = (",", ";", "\t", "|")
_QUOTES: Final = (('"', None), ('"', "\\"), ("'", None), ("", None))
_BOOLEANS: Final = ({"true", "false"}, {"t", "f"})
_FEW: Final = 200
_HEAD: Final = 10_000
_LONGEST_MARK: Final = max(map(len, MISSING))
_DIGIT: Final = "[0-9]"
_FEWEST_VALUES: Final = 10


@dataclass(frozen=True)
class DetectedColumn:
    """The type of a column.

    Attributes:
        format: the format of its dates or times, or the unit of its Unix times; None if they are in ISO 8601.
        nulls: the number of missing values.
        doubt: why another type or format is possible, as a sentence; '' if nothing else reads every value.
    """

    name: str
    dtype: pl.DataType
    format: str | None
    nulls: int
    doubt: str = ""


@dataclass(frozen=True)
class DetectedFile:
    """How a file is written.

    Attributes:
        text: its values as text, with nulls for `null_values`.
        doubts: what else the marks could be, one sentence each.
        is_date: by column, which values are dates or times of Excel, whose text is in ISO 8601.
    """

    dialect: CsvDialect
    null_values: tuple[str, ...]
    columns: tuple[DetectedColumn, ...]
    text: pl.DataFrame
    doubts: tuple[str, ...] = ()
    is_date: Mapping[str, pl.Series] = field(default_factory=dict)

    def frame(self) -> pl.DataFrame:
        """Return the values in their types, as landing does."""
        return self.text.select(self._values(it) for it in self.columns)

    def _values(self, column: DetectedColumn) -> pl.Series:
        text, is_date = self.text[column.name], self.is_date.get(column.name)
        found = values(text, column.dtype, self.dialect, column.format)
        if is_date is not None and column.dtype.is_temporal():
            found = values(text, column.dtype, CsvDialect(), None).zip_with(is_date, found)
        return found.alias(column.name)


def detect(data: bytes) -> DetectedFile:
    """Return how a CSV file is written.

    Raises:
        CsvError: no candidate reads the file. The message is that of RFC 4180.
    """
    marks, text = detect_marks([data])
    return detect_csv(text, marks)


def detect_marks(files: Sequence[bytes]) -> tuple[CsvDialect, pl.DataFrame]:
    """Return the encoding, delimiter, quote and escape of CSV files that are written alike, and the first one's texts.

    Raises:
        CsvError: no candidate reads the first file.
    """
    encodings = [_encoding(it) for it in files]
    return _marks(files[0], next((it for it in encodings if it != "utf-8"), "utf-8"))


def detect_csv(text: pl.DataFrame, marks: CsvDialect) -> DetectedFile:
    """Return how the values of CSV files with some marks are written, from their texts with nulls for ''."""
    null_values = _null_values(text)
    known = _without(text, null_values)
    decimal, thousands, doubts = number_marks(known.with_columns(map(_without_signs, known)))
    dialect = marks.model_copy(update={"decimal": decimal, "thousands": thousands})
    columns = tuple(_with_lost(detect_column(known[it], dialect), text[it], known[it]) for it in text.columns)
    return DetectedFile(dialect, null_values, columns, known, doubts)


def detect_values(
    text: pl.DataFrame, is_date: Mapping[str, pl.Series] | None = None, missing: Collection[str] = ()
) -> DetectedFile:
    """Return how the values of JSON or Excel files are written, in which numbers have a decimal point.

    Args:
        text: the values as text.
        is_date: by column, which values are dates or times of Excel.
        missing: texts that mean a missing value, such as error cells.
    """
    null_values = tuple(sorted({*_null_values(text), *missing}))
    known = _without(text, null_values)
    columns = tuple(
        _with_lost(_column_with_dates(known[it], (is_date or {}).get(it)), text[it], known[it]) for it in text.columns
    )
    return DetectedFile(CsvDialect(), null_values, columns, known, is_date=is_date or {})


def _without(text: pl.DataFrame, null_values: Collection[str]) -> pl.DataFrame:
    return text.with_columns(pl.when(~pl.all().str.strip_chars(" ").is_in([*null_values])).then(pl.all()))


def _without_signs(text: pl.Series) -> pl.Series:
    """Return numbers without their currency or unit; other texts as they are."""
    form = find_number_format(text.drop_nulls())
    return text if form is None else plain_numbers(text.str.strip_chars(" "), form).alias(text.name)


def _column_with_dates(text: pl.Series, is_date: pl.Series | None) -> DetectedColumn:
    """Return the type of a column of which some values may be dates or times of Excel.

    Raises:
        DataError: it has dates, and texts that are none.
    """
    if is_date is None or not (is_date & text.is_not_null()).any():
        return detect_column(text, CsvDialect())
    dates, rest = text.filter(is_date), text.filter(~is_date).drop_nulls()
    formats = find_time_formats(rest) if rest.len() else [(pl.Date(), None)]
    if not formats:
        others = (text.is_not_null() & ~is_date).arg_true()
        how = "Correct the cells: Excel makes dates of texts that look like one, unless the column is formatted as text"
        if others[0] >= text.len() - MOST_AT_THE_END:
            how = "Delete what follows the last row of the table, such as totals and notes"
        raise DataError(
            f"column '{text.name}' has dates, and other values such as '{rest[0]}'; expected one kind. {how}."
        )
    is_day = formats[0][0] == pl.Date() and reads(dates, pl.Date(), CsvDialect())
    found = _time(text.name, formats, text.null_count())
    return found if is_day else replace(found, dtype=pl.Datetime("us"))


def _with_lost(column: DetectedColumn, written: pl.Series, text: pl.Series) -> DetectedColumn:
    """Return a column, with a doubt if texts of it became missing because they mean that in a column of numbers.

    Raises:
        DataError: it is text only because of its first or last rows.
    """
    if column.dtype == pl.String:
        check_ends(text)
    lost = written.filter(text.is_null() & (written != ""))
    if column.dtype != pl.String or not lost.len() or not text.drop_nulls().len():
        return column
    doubt = f"values such as {lost[0]!r} are read as missing, because they mean that in a column of numbers"
    return replace(column, doubt=doubt)


def _encoding(data: bytes) -> str:
    """Return the encoding that a byte order mark names, UTF-8 if the bytes are that, or the likeliest other one.

    With few bytes beyond ASCII, statistics of letters say nothing, and the encoding of Windows in Western Europe is the
    most frequent one.
    """
    marked = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    if marked is not None:
        return marked
    try:
        data.decode()
    except UnicodeDecodeError:
        sample = data[: 4 * _SAMPLE]
        if len(sample.translate(None, delete=_ASCII)) < _FOREIGN * len(sample):
            return "windows-1252"
        best = from_bytes(sample, cp_isolation=[*_ENCODINGS]).best()
        return "windows-1252" if best is None else best.encoding.replace("cp125", "windows-125")
    return "utf-8"


def _marks(data: bytes, encoding: str) -> tuple[CsvDialect, pl.DataFrame]:
    """Return the delimiter, quote and escape with which the beginning reads into the most columns, and the texts.

    If several do, the first in the order of how common they are. It must read the whole file too.

    Raises:
        CsvError: no candidate reads the file.
    """
    candidates = [
        CsvDialect(delimiter=delimiter, quote=quote, escape=escape, encoding=encoding)
        for (quote, escape), delimiter in itertools.product(_QUOTES, _DELIMITERS)
    ]
    beginning = _beginning(data)
    read = {n: text for n, it in enumerate(candidates) if (text := _text(beginning, it)) is not None}
    for n in sorted(read, key=lambda it: (-read[it].width, it)):
        text = read[n] if len(beginning) == len(data) or read[n].width < 2 else _text(data, candidates[n])
        if text is not None and text.width > 1:
            return candidates[n], text
    if above := lines_above_header(beginning.decode(encoding, errors="replace")):
        raise CsvError(
            f"line {above + 1} seems to have the names of the columns; expected them in line 1. Delete what is above "
            "it, such as a title."
        )
    read_text(data, candidates[0], [""])  # raises the reason if it is not a single column
    raise CsvError(
        "has one column in every format that was tried; expected columns that ',', ';', '|' or tabs separate."
    )


def _text(data: bytes, dialect: CsvDialect) -> pl.DataFrame | None:
    """Return the texts; None if the dialect does not read the data."""
    try:
        return read_text(data, dialect, [""])[0]
    except CsvError:
        return None


def _beginning(data: bytes) -> bytes:
    """Return about the first megabyte, to the end of a line with an even number of quotes before it."""
    end = data.find(b"\n", _SAMPLE)
    while 0 <= end < 2 * _SAMPLE and data.count(b'"', 0, end) % 2:
        end = data.find(b"\n", end + 1)
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE))
    return data if end < 0 or wide else data[: end + 1]


def _null_values(text: pl.DataFrame) -> tuple[str, ...]:
    """Return the texts that stand for missing values: known ones that occur beside numbers, times or Booleans.

    In a column of text they may be values: 'NA' is a country, and '-' an answer. A single repeated word in a column of
    otherwise many different numbers or times counts too, such as 'unknown' or 'k.A.'. It is not known to mean that, so
    it does not count if another column has it, where it may be a value.
    """
    found: set[str] = {""}
    guessed: list[tuple[str, str, set[str]]] = []
    for column in text:
        used = _used(column)
        short = used.filter(used.str.len_bytes() <= _LONGEST_MARK).unique()
        marks = {*short.filter(short.str.to_lowercase().is_in([*MISSING]))}
        word = _repeated_word(used, marks)
        if marks and _are_values(used, marks):
            found |= marks
        elif word is not None and _are_values(used, {*marks, word}, fewest=_FEWEST_VALUES):
            guessed.append((column.name, word, marks))
    for _, word, marks in guessed:
        if not _occurs(word, text, without={name for name, it, _ in guessed if it == word}):
            found |= {word, *marks}
    return tuple(sorted(found))


def _used(column: pl.Series) -> pl.Series:
    return column.drop_nulls().str.strip_chars(" ")


def _are_values(used: pl.Series, marks: Collection[str], fewest: int = 1) -> bool:
    """Return whether the other texts are so many different numbers, times or Booleans."""
    rest = used.filter(~used.is_in([*marks])).unique()
    return rest.len() >= fewest and _reads_as_values(rest)


def _occurs(word: str, text: pl.DataFrame, without: Collection[str]) -> bool:
    return any((_used(column) == word).any() for column in text if column.name not in without)


def _repeated_word(used: pl.Series, marks: Collection[str]) -> str | None:
    """Return the only text without a digit besides the marks, if it occurs more than once among more others."""
    if not used.head(_HEAD).str.contains(_DIGIT).any():
        return None
    words = used.filter(~used.str.contains(_DIGIT) & ~used.is_in([*marks]))
    is_one = words.len() > 1 and words.n_unique() == 1 and words.len() < used.len() / 2
    return str(words[0]) if is_one else None


def _reads_as_values(text: pl.Series) -> bool:
    """Return whether texts are numbers, times or Booleans in some format."""
    numbers = _without_signs(text)
    return (
        _are_booleans(text)
        or any(reads(numbers, pl.Float64(), number_dialect(marks)) for marks in NUMBER_MARKS)
        or bool(find_time_formats(text))
    )


def _are_booleans(text: pl.Series) -> bool:
    few = {*text.head(_FEW).str.strip_chars(" ").str.to_lowercase()}
    return any(few <= each and {*text.str.strip_chars(" ").str.to_lowercase()} <= each for each in _BOOLEANS)


def detect_column(text: pl.Series, dialect: CsvDialect) -> DetectedColumn:
    """Return the narrowest type of which every text of a column is a value."""
    name, nulls = text.name, text.null_count()
    used = _distinct(text.drop_nulls())
    if not used.len():
        return DetectedColumn(name, pl.String(), None, nulls, "it has no value")
    if _are_booleans(used):
        return DetectedColumn(name, pl.Boolean(), None, nulls)
    is_number = resembles_numbers(used) and reads(used, pl.Float64(), dialect)
    is_code = is_number and bool(used.str.contains("^ *0[0-9]").any())
    if is_number and not is_code:
        return _number(used, nulls, dialect)
    if formats := find_time_formats(used):
        return _time(name, formats, nulls)
    form = find_number_format(used)
    for dtype in (pl.Int64(), pl.Float64()):
        if form is not None and reads(used, dtype, dialect, form):
            return DetectedColumn(name, dtype, form, nulls)
    return DetectedColumn(name, pl.String(), None, nulls, _doubt_of_text(text.drop_nulls(), dialect, is_code=is_code))


def _number(used: pl.Series, nulls: int, dialect: CsvDialect) -> DetectedColumn:
    whole = values(used, pl.Int64(), dialect, None) if reads(used.head(_FEW), pl.Int64(), dialect) else None
    if whole is not None and not whole.null_count():
        return _whole(used.name, whole, nulls)
    numbers = values(used, pl.Float64(), dialect, None)
    if find_unix_unit(used.name, numbers) == "unix_seconds" and reads(used, pl.Datetime("us"), dialect, "unix_seconds"):
        return DetectedColumn(used.name, pl.Datetime("us"), "unix_seconds", nulls, doubt_of_unix("unix_seconds"))
    return DetectedColumn(used.name, pl.Float64(), None, nulls)


def _doubt_of_text(text: pl.Series, dialect: CsvDialect, *, is_code: bool) -> str:
    """Return why a column of text could be something else; '' if nothing says so."""
    if is_code:
        return "numbers that begin with zeros are codes"
    if has_short_years(text):
        return "it is a date with years of two digits, whose century is not clear; with four digits it is read as one"
    formats: list[tuple[pl.DataType, str | None]] = [(pl.Float64(), None), *find_time_formats(text.head(_FEW))]
    for dtype, form in formats:
        is_value = values(text, dtype, dialect, form).is_not_null()
        if 2 * is_value.sum() > text.len():
            others = ", ".join(map(repr, text.filter(~is_value).unique(maintain_order=True).head(2)))
            return f"most of its values are {_kind(dtype)}, but values such as {others} are not, so it is text"
    return doubt_of_time(text)


def _kind(dtype: pl.DataType) -> str:
    return "dates" if dtype.is_temporal() else "numbers"


def _distinct(text: pl.Series) -> pl.Series:
    """Return each text once; all texts if those at the beginning are mostly different, because it takes less time."""
    head = text.head(_HEAD)
    return text if head.n_unique() > head.len() / 2 else text.unique(maintain_order=True)


def _whole(name: str, numbers: pl.Series, nulls: int) -> DetectedColumn:
    """Return whole numbers as such, or as times if their size and the column's name suggest it."""
    if unit := find_unix_unit(name, numbers):
        return DetectedColumn(name, pl.Datetime("us"), unit, nulls, doubt_of_unix(unit))
    if found := find_format_of_digits(name, numbers.cast(pl.String)):
        dtype, form = found
        return DetectedColumn(name, dtype, form, nulls, f"its numbers are all {_kind(dtype)} of the form {form}")
    return DetectedColumn(name, pl.Int64(), None, nulls, doubt_of_days(name, numbers))


def _time(name: str, formats: Sequence[tuple[pl.DataType, str | None]], nulls: int) -> DetectedColumn:
    (dtype, form), *others = formats
    doubts = [f"every value is a date in the format {others[0][1]} as well"] if others else []
    if form is not None and "%y" in form:
        doubts.append("years of two digits are read as 1969 to 2068")
    return DetectedColumn(name, dtype, form, nulls, "; ".join(doubts))
