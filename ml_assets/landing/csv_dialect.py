"""The declared format of a CSV file: delimiter, quotes, decimal mark, encoding, dates. Default: RFC 4180 and ISO 8601.

Not here: date and time formats (see `ml_assets.landing.time_formats`).
"""

import codecs
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ml_assets.contracts.json_record import Record
from ml_assets.landing.time_formats import Format

_NOT_OF_FILES: Final = frozenset({"punycode", "idna", "utf-7", "unicode-escape", "raw-unicode-escape", "undefined"})


def _mark(text: str) -> str:
    if text == "\\t":  # in single quotes, YAML does not unescape it
        return "\t"
    if len(text) != 1 or not text.isascii() or text.isalnum() or text in "\r\n\0":
        raise ValueError('expected one ASCII character that is not a letter, digit or line break (a tab is "\\t")')
    return text


def _mark_or_none(text: str) -> str:
    return _mark(text) if text else text


def _encoding(name: str) -> str:
    try:
        is_of_files = codecs.lookup(name).name.replace("_", "-") not in _NOT_OF_FILES
        if is_of_files:
            "".encode(name)  # raises LookupError for rot13 and base64
    except LookupError:
        is_of_files = False
    if not is_of_files:
        raise ValueError(
            "is not the encoding of a text file; expected for example utf-8, latin-1, windows-1252, utf-16"
        )
    return name


Mark = Annotated[
    str,
    AfterValidator(_mark),
    Field(title="mark", description="One ASCII character that is not a letter, a digit or a line break."),
]
Encoding = Annotated[
    str,
    AfterValidator(_encoding),
    Field(title="encoding", description="Name of a text encoding, such as `utf-8`, `latin-1` or `windows-1252`."),
]


class CsvDialect(Record):
    """The format of a CSV file. What is not declared is as in RFC 4180, in UTF-8, with dates as in ISO 8601."""

    delimiter: Mark = Field(default=",", description='Character between two values. A tab is "\\t".')
    quote: Annotated[str, AfterValidator(_mark_or_none)] = Field(
        default='"',
        description="Character around a value that contains other marks. '': quotes have no special meaning.",
    )
    escape: Mark | None = Field(
        default=None,
        description="Character that makes a following quote, delimiter or itself part of a value. Without it, a quote "
        "is doubled.",
    )
    decimal: Literal[".", ","] = Field(default=".", description="Decimal mark of numbers.")
    thousands: Literal[",", ".", " ", "'", "_", "\u00a0", "\u202f", "\u2019"] | None = Field(
        default=None, description="Mark between groups of three digits. Without it, none is allowed."
    )
    encoding: Encoding = Field(
        default="utf-8", description="Text encoding, by its name in Python. A byte order mark is accepted."
    )
    date_format: Format | None = Field(
        default=None, description="Format of every date column, such as `%m/%d/%Y`. Without it, ISO 8601."
    )
    timestamp_format: Format | None = Field(
        default=None,
        description="Format of every timestamp column, such as `%d.%m.%Y %H:%M`; UTC, unless it has %z. Without it, "
        "ISO 8601.",
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        marks = [mark for mark in (self.delimiter, self.quote, self.escape) if mark]
        if len({*marks}) < len(marks):
            raise ValueError("'delimiter', 'quote' and 'escape' must differ; without 'escape' quotes are doubled")
        if self.decimal == self.thousands:
            raise ValueError("'decimal' and 'thousands' must differ")
        return self
