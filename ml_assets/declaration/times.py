"""The types of crons and time zones in declarations."""

import calendar
import re
from collections.abc import Sequence
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field

_CRON_FIELD = re.compile(r"(\*|\w+(-\w+)?(,\w+(-\w+)?)*)(/[1-9]\d*)?")
_CRON_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CRON_NAMES = ((), (), (), _MONTHS, ("sun", "mon", "tue", "wed", "thu", "fri", "sat"))


def _is_cron(text: str) -> str:
    fields = text.split()
    if len(fields) != len(_CRON_BOUNDS) or not all(_CRON_FIELD.fullmatch(one) for one in fields):
        raise ValueError("expected a cron of five fields (minute, hour, day, month, day of week) such as '30 5 * * *'")
    for one, (least, most), names in zip(fields, _CRON_BOUNDS, _CRON_NAMES, strict=True):
        for part in one.partition("/")[0].replace("*", "").split(","):
            ends = [_number(word, one, names) for word in part.split("-") if word]
            wrong = [end for end in ends if not least <= end <= most]
            if wrong:
                raise ValueError(f"{wrong[0]} in the cron's field '{one}' lies outside {least} to {most}")
            if ends != sorted(ends):
                raise ValueError(f"'{part}' in the cron's field '{one}' ends before it begins")
    _check_some_month_has_the_day(fields)
    return " ".join(fields)


def _number(word: str, field: str, names: Sequence[str]) -> int:
    if word.isdigit():
        return int(word)
    if word.lower() in names:
        return names.index(word.lower()) + (1 if names is _MONTHS else 0)
    or_name = f" or one of {', '.join(names)}" if names else ""
    raise ValueError(f"'{word}' in the cron's field '{field}' is no number; expected a number{or_name}")


def _check_some_month_has_the_day(fields: Sequence[str]) -> None:
    day, month, weekday = fields[2:]
    if day.isdigit() and month.isdigit() and weekday == "*" and int(day) > calendar.monthrange(2024, int(month))[1]:
        raise ValueError(f"no month named has a day {day}")


Cron = Annotated[
    str,
    AfterValidator(_is_cron),
    Field(title="cron", description="Minute, hour, day of month, month and day of week, such as `30 5 * * *`."),
]


def _is_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError("expected a time zone such as Europe/Zurich") from error
    return name


Timezone = Annotated[
    str,
    AfterValidator(_is_timezone),
    Field(title="time zone", description="Name of the IANA time zone database, such as `Europe/Zurich`."),
]


def later(cron: str, minutes: int) -> str:
    """Return a cron whose times come so many minutes later.

    Raises:
        ValueError: its fields cannot express that: it has no fixed minute and hour, or midnight comes in between.
    """
    minute, hour, *days = cron.split()
    if minute.isdigit() and hour.isdigit():
        at = int(hour) * 60 + int(minute) + minutes
        if at < 24 * 60:
            return " ".join([str(at % 60), str(at // 60), *days])
    elif minute.isdigit() and hour == "*" and int(minute) + minutes < 60:
        return " ".join([str(int(minute) + minutes), hour, *days])
    raise ValueError(
        f"{minutes} minutes after '{cron}' is no cron; give a fixed minute and hour, and a time before midnight"
    )
