"""Reads JSON as text columns: one object per line, or one array of objects.

Python's `json` reads it, because it hands over every number as it is written. polars and pyarrow convert numbers before
the type of their column is known, and change large ones. Not here: conversion to types (see
`ml_assets.landing.text_values`).
"""

import codecs
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import polars as pl

_AT_ONCE: Final = 20_000
_BLANKS: Final = " \t\r\n"
_BLANK: Final = re.compile(f"[{_BLANKS}]*")
_WIDE_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_MOST_STRANGE: Final = 5
_EXPECTED: Final = (
    "Expected one object per line, or one array of objects. Correct the file; if it is CSV, declare 'format: csv'."
)
_Record = dict[str, Any]


class JsonError(ValueError):
    """A text is not JSON, or not a sequence of records. The message names the line."""


class _TwiceError(ValueError):
    """An object has a key twice."""


@dataclass(frozen=True)
class JsonRecords:
    """The records of a text.

    Attributes:
        text: the values of the wanted columns as text. Numbers are as written.
        names: the wanted columns that occur.
        strange: some columns that have a value and are not wanted, each with the place of the first value.
        arrays: the columns that are an array in some record, each with the place of the first. They are not read.
        places: the place of each record: its line, or its number in the array, counted from 1.
    """

    text: pl.DataFrame
    names: Collection[str]
    strange: Mapping[str, str]
    arrays: Mapping[str, str]
    places: Sequence[str]


def read_records(data: bytes, wanted: Collection[str] | None = None) -> JsonRecords:
    """Return the records of a text in UTF-8.

    A column `a.b` is the key `b` of the object `a`. A key that a record lacks is null in it. Without `wanted`, every
    key is a column, in the order in which the keys occur.

    Raises:
        JsonError: the text is not UTF-8 or not JSON; a record is not an object, or has a key twice; a wanted column is
            an array.
    """
    text = _decoded(data)
    records = _elements(text) if text.startswith("[", _after(text, 0)) else _lines(text)
    known, names = dict.fromkeys(wanted or ()), set[str]()
    strange, arrays = dict[str, str](), dict[str, str]()
    places: list[str] = []
    parts = [pl.DataFrame(schema=dict.fromkeys(known, pl.String))]
    while some := [(place, _flat(record, place)) for place, record in islice(records, _AT_ONCE)]:
        for place, record in some:
            for name in [name for name, value in record.items() if isinstance(value, list)]:
                arrays.setdefault(name, place)
                del record[name]
            if record.keys() <= names:
                continue
            known |= dict.fromkeys(record) if wanted is None else {}
            names |= record.keys() & known.keys()
            for name in (it for it in record if it not in known and record[it] is not None and it not in arrays):
                if len(strange) < _MOST_STRANGE:
                    strange.setdefault(name, place)
        places += [place for place, _ in some]
        parts.append(pl.DataFrame([_texts(name, some) for name in known]))
    if wrong := next((name for name in wanted or () if name in arrays), None):
        raise JsonError(
            f"{arrays[wrong]} has an array in '{wrong}'; expected a text, a number, true, false or null. Write one "
            "record for each element, or one key for each; or remove the column from the source's YAML."
        )
    table = pl.concat(parts, how="diagonal").drop(arrays, strict=False)
    strange = {name: place for name, place in strange.items() if name not in arrays}
    return JsonRecords(table, names - arrays.keys(), strange, arrays, places)


def _texts(name: str, records: Sequence[tuple[str, _Record]]) -> pl.Series:
    """Return a column of some records as text."""
    values = [record.get(name) for _, record in records]
    if bool in map(type, values):
        values = [str(value).lower() if isinstance(value, bool) else value for value in values]
    try:
        return pl.Series(name, values, pl.String)
    except UnicodeEncodeError as error:
        place = next(place for place, record in records if not _is_unicode(record.get(name)))
        raise JsonError(f"{place} has half a surrogate pair in '{name}', which is no character. Correct it.") from error


def _is_unicode(value: object) -> bool:
    return not re.search("[\ud800-\udfff]", str(value))


def _flat(record: _Record, place: str) -> _Record:
    """Return a record whose nested objects are columns of their own."""
    if dict not in set(map(type, record.values())):
        return record
    found: _Record = {}
    for name, value in record.items():
        parts = {name: value}
        if isinstance(value, dict):
            parts = {f"{name}.{inner}": it for inner, it in _flat(value, place).items()}
        if twice := parts.keys() & found.keys():
            raise JsonError(f"{place} has the key '{twice.pop()}' twice, once as an object. Correct the file.")
        found |= parts
    return found


def _decoded(data: bytes) -> str:
    if data.startswith(_WIDE_MARKS):
        raise JsonError("begins with the byte order mark of UTF-16 or UTF-32; JSON is in UTF-8. Convert it.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise JsonError(f"line {line} has bytes that are not UTF-8, as JSON requires. Convert it to UTF-8.") from error


def _object(pairs: list[tuple[str, Any]]) -> _Record:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return found


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_float=str, parse_int=str, parse_constant=str)


def _lines(text: str) -> Iterator[tuple[str, _Record]]:
    """Yield the record of each line that is not blank, with the number of the line."""
    begin, number = 0, 0
    while begin < len(text):
        end = text.find("\n", begin)
        end = len(text) if end < 0 else end
        line, number, begin = text[begin:end].strip(_BLANKS), number + 1, end + 1
        if not line:
            continue
        place = f"line {number}"
        record, over = _record(line, 0, place)
        if over < len(line):
            raise JsonError(f"{place} has more text after its object, at character {over + 1}. {_EXPECTED}")
        yield place, record


def _elements(text: str) -> Iterator[tuple[str, _Record]]:
    """Yield the elements of an array."""
    at, number = _after(text, _after(text, 0) + 1), 0
    is_more = not text.startswith("]", at)
    while is_more:
        number += 1
        place = f"element {number}"
        record, end = _record(text, at, place)
        yield place, record
        at = _after(text, end)
        is_more = text.startswith(",", at)
        if not is_more and not text.startswith("]", at):
            raise JsonError(
                f"{place} of its array is not followed by a comma or by the end of the array, on line "
                f"{_line(text, at)}. Correct the file; it may be cut off."
            )
        at = _after(text, at + 1) if is_more else at
    if (end := _after(text, at + 1)) < len(text):
        raise JsonError(f"has more text after its array, on line {_line(text, end)}. {_EXPECTED}")


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _after(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _record(text: str, at: int, place: str) -> tuple[_Record, int]:
    """Return the object that begins at an offset, and the offset of its end."""
    try:
        found, end = _DECODER.raw_decode(text, at)
    except _TwiceError as error:
        raise JsonError(f"{place} has the key '{error}' twice, so its value is ambiguous. Correct the file.") from error
    except json.JSONDecodeError as error:
        where = f"at character {error.colno}" if place.startswith("line") else f"on line {error.lineno}"
        raise JsonError(f"{place} is not JSON: {error.msg.lower()} {where}. {_EXPECTED}") from error
    except RecursionError as error:
        raise JsonError(f"{place} is nested too deeply. Write flat records.") from error
    if not isinstance(found, dict):
        raise JsonError(
            f'{place} is {_kind(found)}; expected an object with the columns as keys, such as {{"id": 1}}. Write one '
            "object per line, or one array of objects."
        )
    return found, end


def _kind(value: object) -> str:
    """Return what a JSON value is, as far as `_DECODER` distinguishes it."""
    named = {dict: "an object", list: "an array", bool: "a boolean", type(None): "null"}
    return named.get(type(value), "a single value")
