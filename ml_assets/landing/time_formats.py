"""Parses date and time formats such as %m/%d/%Y into regular expressions, and texts into moments.

A text must have exactly the format. Nothing is guessed: a year of two digits (%y) is one of 1969 to 2068, as in the
`strptime` of C and Python, and a format without a day means the first day of the month.
"""

import functools
import re
from collections.abc import Mapping
from typing import Annotated, Final

import polars as pl
from pydantic import AfterValidator, Field

from ml_assets.landing.number_formats import check_number_format, is_number_format

UNIX_TIMES: Final[Mapping[str, int]] = {
    "unix_seconds": 1, "unix_milliseconds": 1_000, "unix_microseconds": 1_000_000, "unix_nanoseconds": 1_000_000_000,
}  # fmt: skip
"""Units of Unix times, each with the number of units per second."""

_MICROSECONDS: Final = 1_000_000
_FIRST_OF_1900: Final = "69"  # POSIX: 69 to 99 are 1969 to 1999
_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_SHORT_MONTHS: Final = tuple(name[:3] for name in _MONTHS)
_ZONE: Final = "(?P<z>Z|[+-](?:0[0-9]|1[0-4])(?::?[0-5][0-9])?)"
_FRACTION: Final = "(?P<f>[0-9]{1,6})0*"  # moments have microseconds; further digits must be zero
_DIRECTIVES: Final = {
    "%Y": "(?P<Y>[0-9]{4})", "%y": "(?P<y>[0-9]{2})", "%m": "(?P<m>[0-9]{1,2})",
    "%d": "(?P<d>[0-9]{1,2})", "%H": "(?P<H>[0-9]{1,2})",
    "%I": "(?P<I>0?[1-9]|1[0-2])", "%M": "(?P<M>[0-9]{1,2})", "%S": "(?P<S>[0-5][0-9])", "%f": _FRACTION,
    "%b": f"(?P<b>(?i:{'|'.join(_SHORT_MONTHS)}))", "%B": f"(?P<B>(?i:{'|'.join(_MONTHS)}))",
    "%p": "(?P<p>(?i:am|pm))", "%z": _ZONE, "%%": "%",
}  # fmt: skip
_ISO_DAY: Final = "(?P<Y>[0-9]{4})-(?P<m>[0-9]{2})-(?P<d>[0-9]{2})"
_ISO_TIME: Final = f"[T ](?P<H>[0-9]{{2}}):(?P<M>[0-9]{{2}})(?::(?P<S>[0-5][0-9])(?:\\.{_FRACTION})?)?{_ZONE}?"
ISO_TIMESTAMP: Final = f"^{_ISO_DAY}{_ISO_TIME}$"
ISO_DATE: Final = f"^{_ISO_DAY}(?:{_ISO_TIME})?$"
_PLAIN_TIME: Final = "[T ][0-9]{2}:[0-9]{2}:[0-5][0-9]"
_PLAIN_ISO: Final = {
    ISO_TIMESTAMP: f"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}{_PLAIN_TIME}$",
    ISO_DATE: f"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:{_PLAIN_TIME})?$",
}
_DAY_BYTES: Final = 10


@functools.cache
def format_regex(text: str) -> str:
    """Return a regular expression for texts of a format, with a group for each directive.

    Raises:
        ValueError: it is not a format. The message names what is expected.
    """
    pieces = re.findall(r"%.?|[^%]+", text, flags=re.DOTALL)
    if unknown := [it for it in pieces if it.startswith("%") and it not in _DIRECTIVES]:
        raise ValueError(f"'{unknown[0]}' is not a directive; expected some of {', '.join(_DIRECTIVES)}")
    directives = [it for it in pieces if it.startswith("%") and it != "%%"]
    if len({*directives}) < len(directives):
        raise ValueError("a directive occurs twice; expected each at most once")
    given = {*directives}
    if not (len(given & {"%Y", "%y"}) == 1 and len(given & {"%m", "%b", "%B"}) == 1):
        raise ValueError("expected a year (%Y or %y) and a month (%m, %b or %B), such as %m/%d/%Y")
    if "%d" not in given and given & {"%H", "%I"}:
        raise ValueError("it has a time of day without a day (%d)")
    if len(given & {"%H", "%I"}) > 1 or ("%I" in given) != ("%p" in given):
        raise ValueError("expected %H, or %I with %p")
    for finer, coarser in (("%M", {"%H", "%I"}), ("%S", {"%M"}), ("%f", {"%S"})):
        if finer in given and not given & coarser:
            raise ValueError(f"it has {finer} without {' or '.join(sorted(coarser))}")
    parts = []
    for before, piece, after in zip(["", *pieces], pieces, [*pieces[1:], ""], strict=False):
        is_packed = not _DIRECTIVES.keys().isdisjoint({before, after})  # as %Y%m%d, where 1 or 2 digits are ambiguous
        found = _DIRECTIVES.get(piece) or re.escape(piece)
        parts.append(found.replace("{1,2}", "{2}") if is_packed else found)
    return f"^{''.join(parts)}$"


def _format(text: str) -> str:
    format_regex(text)
    return text


def _column_format(text: str) -> str:
    if is_number_format(text):
        check_number_format(text)
    elif text not in UNIX_TIMES:
        try:
            format_regex(text)
        except ValueError as error:
            raise ValueError(f"{error}; or one of {', '.join(UNIX_TIMES)}") from error
    return text


Format = Annotated[
    str,
    AfterValidator(_format),
    Field(
        title="date format",
        description="Directives of `strptime`, such as `%m/%d/%Y %H:%M`. Year and month are required. Years of two "
        "digits (`%y`) are 1969 to 2068; without a day (`%d`), it is the first one of the month.",
    ),
]
ColumnFormat = Annotated[
    str,
    AfterValidator(_column_format),
    Field(
        title="column format",
        description=f"A date format; for whole numbers, {', '.join(UNIX_TIMES)}; for texts with a number, what is "
        "beside it, with a `#` in its place, such as `$#` or `# %`.",
    ),
]


def moments(text: pl.Series, regex: str) -> pl.Series:
    """Return the moments (UTC, microseconds) of texts; null if a text does not match or the moment does not exist.

    The groups of `regex` are named as the directives of `strptime`. A moment without a zone is in UTC.
    """
    if regex in _PLAIN_ISO and text.str.contains(_PLAIN_ISO[regex]).all():
        return _plain_moments(text)
    groups = re.compile(regex).groupindex
    column = pl.col("text")
    parts = column.str.extract_groups(regex)
    looks_right = column.str.contains(regex)

    def part(name: str, default: str) -> pl.Expr:
        found = parts.struct.field(name) if name in groups else pl.lit(None, pl.String)
        return found.fill_null(default)

    month = part("m", "01")
    for name, known in (("b", _SHORT_MONTHS), ("B", _MONTHS)):
        if name in groups:
            numbers = {it: str(n) for n, it in enumerate(known, start=1)}
            month = part(name, known[0]).str.to_lowercase().replace_strict(numbers, default=None)
    hour = part("H", "00")
    if "I" in groups:
        is_afternoon = part("p", "am").str.to_lowercase() == "pm"
        hour = (part("I", "12").cast(pl.Int32) % 12 + pl.when(is_afternoon).then(12).otherwise(0)).cast(pl.String)
    year = part("Y", "0001")
    if "y" in groups:
        two_digits = part("y", "00")
        year = pl.when(two_digits < _FIRST_OF_1900).then(pl.lit("20")).otherwise(pl.lit("19")) + two_digits
    whole = pl.format(
        "{}-{}-{} {}:{}:{}",
        year,
        *(it.str.zfill(2) for it in (month, part("d", "01"), hour, part("M", "00"), part("S", "00"))),
    )
    zone = part("z", "Z").str.replace("Z", "+00", literal=True).str.replace(":", "", literal=True).str.pad_end(5, "0")
    sign = pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
    minutes = sign * (zone.str.slice(1, 2).cast(pl.Int64) * 60 + zone.str.slice(3, 2).cast(pl.Int64))
    at = (
        whole.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
        + pl.duration(microseconds=part("f", "0").str.pad_end(6, "0").cast(pl.Int64))
        - pl.duration(minutes=minutes)
    )
    return text.alias("text").to_frame().select(pl.when(looks_right).then(_in_range(at))).to_series()


def _plain_moments(text: pl.Series) -> pl.Series:
    """Return the moments of texts that are all in the most frequent form of ISO 8601, in a tenth of the time."""
    form = pl.when(pl.col("text").str.len_bytes() == _DAY_BYTES).then(pl.col("text") + " 00:00:00")
    whole = form.otherwise(pl.col("text").str.replace("T", " ", literal=True))
    at = whole.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
    return text.alias("text").to_frame().select(_in_range(at)).to_series()


def days_of_moments(at: pl.Series) -> pl.Series:
    """Return the days of moments; null if a moment is not at midnight, because the day would lose its time."""
    day = pl.col("at").dt.date()
    return at.alias("at").to_frame().select(pl.when(day.cast(pl.Datetime("us")) == pl.col("at")).then(day)).to_series()


def unix_moments(whole: pl.Series, unit: str) -> pl.Series:
    """Return the moments (UTC, microseconds) of Unix times; null if microseconds cannot represent one exactly."""
    per_second = UNIX_TIMES[unit]
    number = pl.col("whole").cast(pl.Int128)
    scaled = number * _MICROSECONDS
    at = (scaled // per_second).cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
    is_exact = scaled % per_second == 0
    return whole.alias("whole").to_frame().select(pl.when(is_exact).then(_in_range(at))).to_series()


def _in_range(at: pl.Expr) -> pl.Expr:
    """Keep moments of the years 1 to 9999, which all readers of a lake support."""
    return pl.when(at.dt.year().is_between(1, 9999)).then(at)
