"""The settings of the training set: how its rows are split."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ml_assets.contracts.words import quoted
from ml_assets.declaration.parts import ColumnName, Part

_WINDOWS: Final = ("train_days", "validation_days", "test_days")
_SHARES: Final = ("validation_share", "test_share")
_FOLDS: Final = ("folds", "repeats")
_FEWEST_SCORES: Final = 5

_PartShare = Annotated[float, Field(gt=0, lt=1)]


class Split(Part):
    """How the rows of a training set are split into train, validation and test.

    `by: time` has windows in days. The last is test, up to the as-of day; before it validation, then train. With a
    `group`, its rows may be in several windows, but they do not count as independent.
    `by: random` and `by: group` have shares of the rows or of the groups, for rows that have no order in time. With
    `folds` they have a repeated cross-validation instead: every row is a test row once in each repeat.
    """

    by: Literal["time", "random", "group"] = Field(
        default="time",
        description="`time`: by windows in days. `random`: each row by a hash of its key. `group`: each row by a hash "
        "of its `group`, so that the rows of a group are in the same part. A hash gives the same parts in every run.",
    )
    group: ColumnName | None = Field(
        default=None,
        description="Column of the feature table with the group of a row, such as a customer. With `by: group` the "
        "rows of a group are in the same part. With `by: time` they may be in several windows, and intervals and "
        "comparisons leave out groups besides days. Not with `by: random`.",
    )
    train_days: Annotated[int, Field(gt=0, le=36_600)] | None = Field(
        default=None,
        description="Days of the train window. Without it, all days before the validation window. Only with "
        "`by: time`.",
    )
    validation_days: Annotated[int, Field(gt=0, le=3660)] = Field(
        default=30,
        description="Days of the validation window, on which features and parameters are chosen. Only with `by: time`.",
    )
    test_days: Annotated[int, Field(gt=0, le=3660)] = Field(
        default=30,
        description="Days of the test window, on which the gate compares challenger and champion. At least 5. Only "
        "with `by: time`.",
    )
    validation_share: _PartShare = Field(
        default=0.2,
        description="Share of the rows or groups on which features and parameters are chosen. Not with `by: time`.",
    )
    test_share: _PartShare = Field(
        default=0.2,
        description="Share of the rows or groups on which the gate compares challenger and champion. Not with "
        "`by: time`.",
    )
    folds: Annotated[int, Field(ge=3, le=20)] | None = Field(
        default=None,
        description="Folds of a repeated cross-validation, for small tables. Each fold is tested on models that are "
        "selected, tuned and trained on the other folds; the model itself is trained on all rows. Without it, one part "
        "of the rows is the test part. Not with `by: time`.",
    )
    repeats: Annotated[int, Field(ge=1, le=50)] = Field(
        default=5, description="How often the rows are dealt into folds anew. Only with `folds`."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        others = (*_SHARES, *_FOLDS) if self.is_by_time else _WINDOWS
        foreign = [name for name in others if name in self.model_fields_set]
        if foreign:
            own = "by windows in days" if self.is_by_time else "by shares or folds"
            other = "'by: random' or 'by: group'" if self.is_by_time else "'by: time'"
            raise ValueError(
                f"a split with 'by: {self.by}' is {own}; found {quoted(foreign)}. Remove them, or declare {other}"
            )
        if self.by == "group" and self.group is None:
            raise ValueError(
                "a split with 'by: group' needs 'group', the column whose values stay together; declare it"
            )
        if self.by == "random" and self.group is not None:
            raise ValueError(
                "'group' belongs to 'by: group' or 'by: time'; found 'by: random'. Remove it, or declare one of them"
            )
        self._check_folds()
        if not self.is_by_time and self.folds is None and self.validation_share + self.test_share >= 1:
            raise ValueError(
                f"validation_share {self.validation_share:g} and test_share {self.test_share:g} leave no share to "
                "train on; expected a sum below 1. Lower one of them"
            )
        return self

    def _check_folds(self) -> None:
        if self.folds is None:
            if "repeats" in self.model_fields_set:
                raise ValueError("'repeats' belongs to 'folds', which is missing. Declare 'folds', or remove 'repeats'")
            return
        shares = [name for name in _SHARES if name in self.model_fields_set]
        if shares:
            raise ValueError(
                f"a split with 'folds' has no shares, because each fold is a test part; found {quoted(shares)}. Remove "
                "them, or remove 'folds'"
            )
        if self.folds * self.repeats < _FEWEST_SCORES:
            raise ValueError(
                f"folds {self.folds} times repeats {self.repeats} is {self.folds * self.repeats} test parts, too few "
                f"for an interval; expected at least {_FEWEST_SCORES}. Increase one of them"
            )

    @model_serializer(mode="wrap")
    def _only_own(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return only the fields of this kind of split, so that a split by time is stored as before."""
        parts = _SHARES if self.folds is None else _FOLDS
        group = ("group",) if self.group else ()
        own = (*group, *_WINDOWS) if self.is_by_time else ("by", *group, *parts)
        dumped = handler(self)
        return {name: dumped[name] for name in own if name in dumped}

    @property
    def is_by_time(self) -> bool:
        """Whether the parts are windows in days."""
        return self.by == "time"

    @property
    def held_back(self) -> int:
        """Days that are not trained on: validation and test; 0 if the split is not by time."""
        return self.validation_days + self.test_days if self.is_by_time else 0

    @property
    def predicted_days(self) -> int:
        """Newest days that a run predicts: the test window, or one day if the split is not by time."""
        return self.test_days if self.is_by_time else 1
