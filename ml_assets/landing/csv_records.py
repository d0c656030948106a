"""Finds where the records of a CSV text begin, and every place where the text violates its dialect.

The scan is independent of pyarrow. `ml_assets.landing.csv_files` compares the results of both.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ml_assets.contracts.words import counted
from ml_assets.landing.csv_dialect import CsvDialect

_BLOCK: Final = 1 << 22
_SHOWN: Final = 3
_LINE_FEED, _RETURN = 10, 13
_Positions = npt.NDArray[np.int64]
_Kinds = npt.NDArray[np.uint8]


class CsvError(ValueError):
    """A text does not conform to its CSV dialect. The message names the line and a declaration that would help."""


@dataclass(frozen=True)
class Records:
    """The records of a text, starting with the header.

    Attributes:
        text: the text without line breaks at its end.
        longest: the size of the longest record in bytes.
    """

    text: bytes
    starts: _Positions
    fields: int
    has_breaks: bool
    longest: int

    def line(self, record: int) -> int:
        """Return the line number (from 1) of a record. The header is record 0."""
        return _line(self.text, int(self.starts[record]))


def records_of(text: bytes, dialect: CsvDialect) -> Records:
    """Return where the records of a text (UTF-8 without a byte order mark) begin.

    Raises:
        CsvError: the header is missing, a record has another number of values than the header, there is a blank line
            between records, or a quote, an escape or a carriage return is in a place that the dialect does not allow.
    """
    breaks = _last_breaks(text, dialect)
    text = text[: len(text) - len(breaks)]
    if not text:
        raise CsvError("is empty; expected a line with the names of the columns.")
    if (at := text.find(b"\0")) >= 0:
        raise CsvError(
            f"line {_line(text, at)} has a NUL byte, which no text has; correct the file, or declare its encoding "
            "('csv: {encoding: utf-16}')."
        )
    scan = _Scan(text, dialect)
    ends = [*scan.record_ends()]
    stops = np.concatenate([*ends, np.array([len(text)])]) if ends else np.array([len(text)])
    starts = np.concatenate([np.zeros(1, np.int64), stops[:-1] + 1])
    fields = np.concatenate([*scan.fields, np.array([scan.open_fields])])
    _check_fields(text, starts, stops, fields)
    if fields[0] == 1 and breaks.count(b"\n") > 1:
        raise CsvError(
            f"line {_line(text, len(text)) + 1} is blank, which is ambiguous in a file of one column. "
            'Delete it, or write a missing value as "".'
        )
    return Records(text, starts, int(fields[0]), scan.has_breaks, int((stops - starts).max()) + 2)


def _check_fields(text: bytes, starts: _Positions, stops: _Positions, fields: _Positions) -> None:
    wrong = np.flatnonzero(fields != fields[0])
    is_return = np.frombuffer(text, np.uint8)[np.minimum(starts, len(text) - 1)] == _RETURN
    blank = np.flatnonzero((stops == starts) | ((stops - starts == 1) & is_return))
    if blank.size:
        raise CsvError(
            f"{_lines(text, starts[blank], 'is', 'are')} blank; expected {counted(int(fields[0]), 'value')} on every "
            'line. Delete blank lines; in a file of one column write a missing value as "".'
        )
    if wrong.size:
        found = np.unique(fields[wrong])[:_SHOWN]
        counts = " or ".join([*map(str, found[:-1]), counted(int(found[-1]), "value")])
        is_last = "It is the last line, so the file may be cut off. " if wrong.tolist() == [fields.size - 1] else ""
        raise CsvError(
            f"{_lines(text, starts[wrong], 'has', 'have')} {counts}, but the header has {fields[0]}. {is_last}"
            "Correct the file: quote values that contain the delimiter or a line break. If the file has another "
            "format, declare 'csv: {delimiter: …, quote: …, escape: …}' of the raw table."
        )


class _Scan:
    """Scans a text once, block by block."""

    def __init__(self, text: bytes, dialect: CsvDialect) -> None:
        self._text = text
        self._bytes = np.frombuffer(text, np.uint8)
        self._delimiter = ord(dialect.delimiter)
        self._quote = ord(dialect.quote) if dialect.quote else -1
        self._escape = ord(dialect.escape) if dialect.escape else -1
        marks = [it for it in (self._delimiter, self._quote, self._escape, _LINE_FEED, _RETURN) if it >= 0]
        self._is_mark = np.zeros(256, np.bool_)
        self._is_mark[marks] = True
        self._is_open = False  # whether a quote is open
        self._opened_at = 0
        self._before = (-1, _LINE_FEED)  # the offset and the kind of the last mark
        self.fields: list[_Positions] = []
        self.open_fields = 1
        self.has_breaks = False

    def record_ends(self) -> Iterator[_Positions]:
        """Yield the offsets where records end, except the last one.

        Raises:
            CsvError: a quote, an escape or a carriage return is in a place that the dialect does not allow.
        """
        begin = 0
        while begin < len(self._text):
            end = self._block_end(begin)
            places = np.flatnonzero(self._is_mark[self._bytes[begin:end]]) + begin
            yield self._block(*self._unescaped(places))
            begin = end
        if self._is_open:
            raise CsvError(
                f"line {_line(self._text, self._opened_at)} has a quote that is never closed. {_ABOUT_QUOTES}"
            )

    def _block_end(self, begin: int) -> int:
        """Return where a block ends, never directly after a mark whose meaning depends on the next byte."""
        end = min(begin + _BLOCK, len(self._text))
        while end < len(self._text) and self._text[end - 1] in {self._quote, self._escape, _RETURN}:
            end += 1
        return end

    def _unescaped(self, places: _Positions) -> tuple[_Positions, _Kinds]:
        """Return the marks with a meaning, without escape characters and the characters that they escape."""
        kinds = self._bytes[places]
        if self._escape < 0:
            return places, kinds
        escapes = places[kinds == self._escape]
        if not escapes.size:
            return places, kinds
        is_first = np.diff(escapes, prepend=-2) != 1
        in_run = np.arange(escapes.size) - np.maximum.accumulate(np.where(is_first, np.arange(escapes.size), 0))
        escapes = escapes[in_run % 2 == 0]
        escaped = escapes + 1
        is_known = escaped < len(self._text)
        is_known[is_known] = self._is_mark[self._bytes[escaped[is_known]]]
        if not is_known.all():
            at = int(escapes[~is_known][0])
            raise CsvError(
                f"line {_line(self._text, at)} has an escape before an ordinary character; expected a quote, a "
                "delimiter, a line break or the escape itself after it. Correct the file, or 'csv: {escape: …}' of the "
                "raw table."
            )
        self.has_breaks |= bool(np.isin(self._bytes[escaped], (_LINE_FEED, _RETURN)).any())
        means = ~np.isin(places, np.concatenate([escapes, escaped]))
        return places[means], kinds[means]

    def _block(self, places: _Positions, kinds: _Kinds) -> _Positions:
        is_quote = kinds == self._quote
        opened = (np.cumsum(is_quote) + self._is_open) % 2 == 1
        self._check_quotes(places, kinds, is_quote, opened)
        is_outside = ~opened & ~is_quote
        self.has_breaks |= bool((opened & np.isin(kinds, (_LINE_FEED, _RETURN))).any())
        self._check_returns(places, kinds, is_outside)
        if places.size:
            self._is_open, self._before = bool(opened[-1]), (int(places[-1]), int(kinds[-1]))
        parts = is_outside & (kinds != _RETURN)
        is_end = kinds[parts] == _LINE_FEED
        ends = np.flatnonzero(is_end)
        if ends.size:
            counts = np.diff(ends, prepend=-1)
            counts[0] += self.open_fields - 1
            self.fields.append(counts)
            self.open_fields = 1 + is_end.size - 1 - int(ends[-1])
        else:
            self.open_fields += is_end.size
        found: _Positions = places[parts][ends]
        return found

    def _check_quotes(
        self, places: _Positions, kinds: _Kinds, is_quote: npt.NDArray[np.bool_], opened: npt.NDArray[np.bool_]
    ) -> None:
        """Refuse quotes in the middle of a value, unless doubled. A quote opens a value at its start or closes it."""
        if not is_quote.any():
            return
        last_place, last_kind = self._before
        places_before = np.concatenate([[last_place], places[:-1]])
        kinds_before = np.concatenate([[last_kind], kinds[:-1]])
        places_after = np.concatenate([places[1:], [len(self._text)]])
        starts = np.isin(kinds_before, (self._delimiter, _LINE_FEED, self._quote)) & (places_before == places - 1)
        ends = places_after == places + 1
        is_stray = is_quote & np.where(opened, ~starts, ~ends)
        if is_stray.any():
            at = int(places[is_stray][0])
            raise CsvError(f"line {_line(self._text, at)} has a quote in the middle of a value. {_ABOUT_QUOTES}")
        openings = places[is_quote & opened]
        if openings.size:
            self._opened_at = int(openings[-1])

    def _check_returns(self, places: _Positions, kinds: _Kinds, is_outside: npt.NDArray[np.bool_]) -> None:
        returns = places[is_outside & (kinds == _RETURN)]
        alone = returns[self._bytes[np.minimum(returns + 1, len(self._text) - 1)] != _LINE_FEED]
        if alone.size:
            raise CsvError(
                f"line {_line(self._text, int(alone[0]))} has a carriage return without a line feed; expected lines "
                "that end in a line feed, with or without a carriage return before it. Convert the file's line ends, "
                "or quote the value."
            )


_ABOUT_QUOTES: Final = (
    "Quote the value, and double each quote inside it. If the file escapes quotes with a character, declare "
    "'csv: {escape: …}' of the raw table; if quotes have no meaning in it, 'csv: {quote: \"\"}'."
)


def _last_breaks(text: bytes, dialect: CsvDialect) -> bytes:
    """Return the line breaks at the end of a text without an escaped one; nothing if some are malformed."""
    bare = text.rstrip(b"\r\n")
    escapes = len(bare) - len(bare.rstrip(dialect.escape.encode())) if dialect.escape else 0
    breaks = text[len(bare) + escapes % 2 :]
    return breaks if re.fullmatch(rb"(?:\r?\n)*", breaks) else b""


def _line(text: bytes, at: int) -> int:
    return text.count(b"\n", 0, at) + 1


def _lines(text: bytes, starts: _Positions, one: str, several: str) -> str:
    """Return the line numbers of records and their verb, as the start of a sentence."""
    shown = ", ".join(str(_line(text, int(it))) for it in starts[:_SHOWN])
    more = f" and {starts.size - _SHOWN} more" if starts.size > _SHOWN else ""
    return f"line {shown} {one}" if starts.size == 1 else f"lines {shown}{more} {several}"
