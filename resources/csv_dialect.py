"""How a CSV file is written: delimiter, quotes, decimal mark, encoding, dates. The default is RFC 4180 with ISO 8601.

How dates and times are written: `resources.time_formats`.
"""

import codecs
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from resources.time_formats import Format

_NOT_OF_FILES: Final = frozenset({"punycode", "idna", "utf-7", "unicode-escape", "raw-unicode-escape", "undefined"})


def _mark(text: str) -> str:
    if text == "\\t":  # YAML's single quotes leave it as it is
        return "\t"
    if len(text) != 1 or not text.isascii() or text.isalnum() or text in "\r\n\0":
        raise ValueError('expected one ASCII character that is no letter, digit or line break (a tab is "\\t")')
    return text


def _mark_or_none(text: str) -> str:
    return _mark(text) if text else text


def _encoding(name: str) -> str:
    try:
        is_of_files = codecs.lookup(name).name.replace("_", "-") not in _NOT_OF_FILES
        if is_of_files:
            "".encode(name)  # of rot13 and base64: a LookupError
    except LookupError:
        is_of_files = False
    if not is_of_files:
        raise ValueError(
            "is not the encoding of a text file; expected for example utf-8, latin-1, windows-1252, utf-16"
        )
    return name


Mark = Annotated[str, AfterValidator(_mark)]


class CsvDialect(BaseModel):
    """How a CSV file is written; what is not declared is as in RFC 4180, in UTF-8, with ISO 8601 dates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delimiter: Mark = Field(default=",", description='what stands between two values; a tab is "\\t"')
    quote: Annotated[str, AfterValidator(_mark_or_none)] = Field(
        default='"', description="what surrounds a value; '' where quotes have no meaning"
    )
    escape: Mark | None = Field(
        default=None,
        description="what makes a quote, a delimiter or itself part of a value; absent: quotes are doubled",
    )
    decimal: Literal[".", ","] = Field(default=".", description="what stands before the fraction of a number")
    thousands: Literal[",", ".", " ", "'", "_", "\u00a0", "\u202f", "\u2019"] | None = Field(
        default=None, description="what stands between groups of three digits; absent: nothing may"
    )
    encoding: Annotated[str, AfterValidator(_encoding)] = Field(
        default="utf-8", description="a text encoding that Python knows; a byte order mark is accepted"
    )
    date_format: Format | None = Field(
        default=None, description="of every date column, such as %m/%d/%Y; absent: ISO 8601"
    )
    timestamp_format: Format | None = Field(
        default=None, description="of every timestamp column, such as %d.%m.%Y %H:%M (UTC without %z); absent: ISO 8601"
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        marks = [mark for mark in (self.delimiter, self.quote, self.escape) if mark]
        if len({*marks}) < len(marks):
            raise ValueError("'delimiter', 'quote' and 'escape' must differ; without 'escape' quotes are doubled")
        if self.decimal == self.thousands:
            raise ValueError("'decimal' and 'thousands' must differ")
        return self
