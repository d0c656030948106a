"""The settings of `for_each`: several models from one declaration, one for each value of a column."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from ml_assets.declaration.parts import ColumnName, Name, Part

if TYPE_CHECKING:
    from ml_assets.declaration.model import ModelDeclaration

SegmentValue = bool | int | str
_NAME: TypeAdapter[str] = TypeAdapter(Name)


class ForEachSettings(Part):
    """The values of a column, each with a model of its own."""

    column: ColumnName = Field(description="Column of the feature table: a feature, the group, or a part of the key.")
    values: Annotated[tuple[SegmentValue, ...], Field(min_length=1, max_length=1000)] = Field(
        description="Values that have a model of their own. Put texts such as `NO` in quotes; YAML reads it as false."
    )
    names: dict[Name, SegmentValue] = Field(
        default={},
        description="Ends of the names of some models, each with its value, such as `{plus: A+}`. Without it, the "
        "value in lower case, in which other characters than letters and digits are `_`.",
    )
    pooled: bool = Field(
        default=True,
        description="Whether a model of all rows is trained too. It serves the rows of each value whose own model is "
        "not shown to be better.",
    )

    @field_validator("values", mode="before")
    @classmethod
    def _of_possible_types(cls, given: object) -> object:
        """Report each value of another type once, instead of once for each possible type."""
        wrong = [it for it in given if not isinstance(it, SegmentValue)] if isinstance(given, list | tuple) else []
        if wrong:
            found = ", ".join("null" if it is None else str(it) for it in wrong)
            raise ValueError(
                f"expected texts, whole numbers, true or false, found {found}. A row without a value, or with one of "
                "another type, has no model of its own"
            )
        return given

    def end_of(self, value: SegmentValue) -> str:
        """Return the end of the name of a value's model; '' if the value has no ASCII letter or digit."""
        named = {_typed(given): name for name, given in self.names.items()}
        text = unicodedata.normalize("NFKD", str(value)).encode("ascii", "ignore").decode().lower()
        return named.get(_typed(value)) or re.sub(r"[^a-z0-9]+", "_", text).strip("_")

    def problems(self, model: str) -> Iterator[tuple[str, object, str]]:
        """Yield what is wrong with the values of a model's declaration: the field, the value and the message."""
        seen: dict[str, SegmentValue] = {}
        for value in self.values:
            name, fix = f"{model}_{self.end_of(value)}", "Give the value a name of its own under 'names'"
            if name in seen and _typed(seen[name]) == _typed(value):
                yield "values", value, "the value is listed twice; remove one"
            elif name in seen:
                yield "values", value, f"its model has the name {name}, as that of {seen[name]!r}. {fix}"
            elif not self.end_of(value):
                yield "values", value, f"no name follows from a value without ASCII letters and digits. {fix}"
            elif not _is_name(name):
                yield (
                    "values",
                    value,
                    f"its model would have the name {name}, longer than 63 characters. {fix}",
                )
            seen.setdefault(name, value)
        known = {_typed(it) for it in self.values}
        named: dict[tuple[type, SegmentValue], str] = {}
        for name, value in self.names.items():
            if _typed(value) not in known:
                yield "names", {name: value}, f"expected one of the values {', '.join(map(repr, self.values))}"
            elif other := named.get(_typed(value)):
                yield "names", {name: value}, f"the value has the name {other}, too; remove one"
            named.setdefault(_typed(value), name)


def _typed(value: SegmentValue) -> tuple[type, SegmentValue]:
    """Return a value with its type, because true equals 1 in Python."""
    return type(value), value


def _is_name(text: str) -> bool:
    try:
        _NAME.validate_python(text)
    except ValidationError:
        return False
    return True


@dataclass(frozen=True)
class Segment:
    """The rows of one model of a `for_each`: those with a value in a column.

    Attributes:
        of: the declaration of all its models, which is also that of the pooled one.
    """

    column: str
    value: SegmentValue
    of: ModelDeclaration

    @property
    def pooled(self) -> ModelDeclaration | None:
        """The model of all rows; None if it is not declared."""
        return self.of if self.of.for_each is not None and self.of.for_each.pooled else None

    @property
    def words(self) -> str:
        """The condition, as text."""
        return f"{self.column} = {self.value!r}"

    @property
    def parameters(self) -> Mapping[str, SegmentValue]:
        """The condition, for manifests."""
        return {"column": self.column, "value": self.value}
