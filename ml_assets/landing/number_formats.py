"""Formats of numbers with a currency, a percent sign, a unit, or brackets around negatives, such as `$#`, `# %` or `#`.

A `#` stands for the number, in the marks of the file. What is beside it must be in every value, and is removed: 45% is
45, and ($3.50) is -3.5.
"""

import re
from typing import Final

import polars as pl

_SPACES: Final = "[ \u00a0\u202f]*"
_DIGITS: Final = "[0-9.,](?:[0-9.,'_eE \u00a0\u202f\u2019+-]*[0-9.,])?"
_CODES: Final = "USD|EUR|GBP|CHF|JPY|CNY|INR|BRL|CAD|AUD|PLN|SEK|NOK|DKK|CZK|zł|kr"
_SIGN: Final = rf"[A-Z]{{0,2}}\p{{Sc}}|{_CODES}"
_PARTS: Final = (
    rf"^{_SPACES}\(?[+-]?{_SPACES}(?P<before>{_SIGN})?{_SPACES}[+-]?{_DIGITS}"
    rf"(?:{_SPACES}(?P<after>%|{_SIGN})|[ \u00a0](?P<unit>\p{{L}}{{1,12}}))?{_SPACES}\)?{_SPACES}$"
)
_FEW: Final = 200


def is_number_format(form: str | None) -> bool:
    """Return whether the declared format of a column is one of numbers."""
    return form is not None and "#" in form


def check_number_format(form: str) -> None:
    """Check a format of numbers.

    Raises:
        ValueError: it has several `#`, or a character beside it that may be part of a number.
    """
    if form.count("#") != 1 or re.search(r"[0-9()+-]", form):
        raise ValueError(
            "expected one # in place of the number, and beside it a sign or a unit without digits, + or - or brackets, "
            "such as '$#' or '# kg'"
        )


def plain_numbers(text: pl.Series, form: str) -> pl.Series:
    """Return numbers without what a format has beside them, and with a minus for brackets; null in another form."""
    before, after = (re.escape(it.strip()) for it in form.split("#"))
    number = f"{before}{_SPACES}(?P<{{}}>[+-]?)(?P<{{}}>{_DIGITS}){_SPACES}{after}"
    signed, negative = number.format("inner", "number"), number.replace("(?P<{}>[+-]?)", "").format("negative")
    regex = rf"^(?:(?P<outer>[+-]?){_SPACES}{signed}|\({_SPACES}{negative}{_SPACES}\))$"
    parts = pl.col("text").str.extract_groups(regex).struct
    sign = parts.field("outer").fill_null("") + parts.field("inner").fill_null("")
    found = pl.coalesce(sign + parts.field("number"), pl.lit("-") + parts.field("negative"))
    return text.alias("text").to_frame().select(found).to_series()


def find_number_format(text: pl.Series) -> str | None:
    """Return the format of numbers that every text has; None if they are bare numbers, or no numbers."""
    form = "#"
    for some in (text.head(_FEW).str.strip_chars(" "), text.str.strip_chars(" ")):
        found = some.str.extract_groups(_PARTS).struct.unnest().unique()
        if found.height != 1:
            return None
        before, after, unit = found.row(0)
        form = f"{before or ''}#{after or ''}{f' {unit}' if unit else ''}"
        is_bare = form == "#" and not text.str.contains("(", literal=True).any()
        if is_bare or plain_numbers(some, form).null_count():
            return None
    return form
