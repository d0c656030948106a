"""The base classes and common types of all declarations: names, shares, days, and the version."""

from datetime import date, datetime
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from ml_assets.contracts.json_record import Record
from ml_assets.contracts.periods import BY_DAY, BY_HOUR, Calendar, Grain, why_no_hours
from ml_assets.contracts.yaml_lines import compose, line_of
from ml_assets.declaration.times import Timezone

VERSION: Final = 1
"""The version of declarations that this engine reads; `ml-assets upgrade` rewrites older ones."""
UNVERSIONED: Final = 1
"""The version of a declaration that does not state one."""


def version_problem(found: object) -> str | None:
    """Return why the engine cannot read a declaration of some version; None if it can."""
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        return f"expected the version of the declaration's format, a whole number from 1 to {VERSION}"
    if found > VERSION:
        return (
            f"the declaration has version {found}, but the installed ml-assets reads versions up to {VERSION}. "
            "Upgrade ml-assets"
        )
    if found < VERSION:
        return (
            f"the declaration has version {found}, but the installed ml-assets reads version {VERSION}. "
            "Rewrite it with: ml-assets upgrade"
        )
    return None


def _readable(found: object) -> object:
    if problem := version_problem(found):
        raise ValueError(problem)
    return found


Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9_]{0,62}$",
        title="name",
        description="Lower case letters, digits and `_`, beginning with a letter; at most 63 characters.",
    ),
]
ColumnName = Annotated[
    str, Field(min_length=1, title="column", description="Name of a column, as in the contract of its table.")
]
Share = Annotated[float, Field(ge=0, le=1)]
Stage = Literal[
    "features", "labels", "training_set", "importances", "tuning", "model", "evaluation", "champion",
    "predictions", "drift", "performance", "card", "shadow_predictions", "shadow",
    "requests", "served_drift", "served_performance",
]  # fmt: skip


class Part(Record):
    """Base of every part of a declaration. It is frozen, and an unknown field is an error."""

    # Dagster's own loader prints pydantic's errors unchanged, and an input may contain a secret.
    model_config = ConfigDict(allow_inf_nan=False, hide_input_in_errors=True)

    def read_from(self, path: str, text: str) -> Self:
        """Remember the file that this was read from, and return itself."""
        self.__dict__["_origin"] = path, text  # not a private attribute, which pydantic would compare
        return self

    def place(self, *loc: str) -> str:
        """Return a field with its file and line, for errors; without them if there is no file."""
        path, text = self.__dict__.get("_origin", ("", ""))
        where = f"{path}:{line_of(compose(text), ('attributes', *loc))}: " if path else ""
        return where + ".".join(loc)


class Declaration(Part):
    """Base of every declaration: the content of one `defs.yaml`."""

    version: Annotated[int, Field(ge=VERSION, le=VERSION), BeforeValidator(_readable)] = Field(
        default=VERSION, description="Version of the declaration's format, which `ml-assets upgrade` sets."
    )


class Days(Part):
    """The days that have a partition, first and last included."""

    first: date = Field(description="First day, such as `2024-01-31`.")
    last: date | None = Field(
        default=None, description="Last day, not before `first`. Without it, the last day is yesterday."
    )
    timezone: Timezone = Field(
        default="UTC",
        description="Time zone in which a day begins and ends. All declarations of a project have the same.",
    )
    grain: Grain = Field(
        default=BY_DAY,
        description="What is stored, materialized and monitored together: the rows of an `hour`, `day`, `week` (from "
        "Monday), `month` or `year`. Give a table with few rows a day a coarser one. All declarations of a project "
        "have the same. `first` begins such a period, and `last` ends one. An hour needs a time zone that is whole "
        "hours from UTC and changes its clocks by one hour at most.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last is not None and self.last < self.first:
            raise ValueError(f"last day {self.last} lies before first day {self.first}; swap them")
        if self.grain == BY_HOUR and (why := why_no_hours(self.timezone, self.first)) is not None:
            raise ValueError(
                f"time zone {self.timezone} {why}; with grain 'hour' expected a time zone that is always whole hours "
                "from UTC and changes its clocks by one hour at most, such as UTC. Or declare grain 'day'"
            )
        calendar = self.calendar
        begins = calendar.first_day(calendar.first_key(self.first))
        if begins != self.first:
            raise ValueError(
                f"first day {self.first} is not the first day of a {self.grain}; with grain '{self.grain}' expected "
                f"{begins}. Days without rows do no harm"
            )
        if self.last is not None and (ends := calendar.last_day(calendar.last_key(self.last))) != self.last:
            raise ValueError(
                f"last day {self.last} is not the last day of a {self.grain}; with grain '{self.grain}' expected "
                f"{ends}. Days without rows do no harm"
            )
        return self

    @property
    def calendar(self) -> Calendar:
        """The periods of these days."""
        return Calendar(self.grain, self.timezone)

    def has(self, key: str) -> bool:
        """Return whether a period is among these days."""
        calendar = self.calendar
        return calendar.first_key(self.first) <= key and (self.last is None or key <= calendar.last_key(self.last))

    def newest(self, now: datetime) -> date:
        """Return the newest of these days that is over at a moment, with all of its period."""
        over = self.calendar.newest_day(self.calendar.newest_over(now))
        return over if self.last is None else min(over, self.last)
