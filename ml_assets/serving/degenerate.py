"""Whether the rows and scores of a window are degenerate, compared with the training rows of the served version.

A share is alarming if it is above what the reference has by the declared limit, and by more than chance explains.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ml_assets.declaration.serving import AlarmLimits
from ml_assets.logic.monitoring.reference import SCORE, CategoricalReference, NumericReference, Reference
from ml_assets.serving.served_model import ServedModel

Degenerate = Literal["identical_scores", "default_path", "unseen_categories", "nulls"]
CHANCE: Final = 5.0
"""Standard errors of a share by which it must exceed the reference: one window in three million does by chance."""


@dataclass(frozen=True)
class Observed:
    """What the rows of a window have.

    Attributes:
        identical: how many rows have the most frequent score.
        default: how many rows have no value that the model knows: each is missing, or a category unseen in training.
        nulls, unseen: by field, how many rows have no value, or an unseen category.
    """

    rows: int
    identical: int
    default: int
    nulls: Mapping[str, int]
    unseen: Mapping[str, int]


@dataclass(frozen=True)
class Share:
    """A share of rows, and that of the reference.

    Attributes:
        field: the input; None if the share is one of whole rows.
        usual: the share of the reference on one of its unusual days.
    """

    what: Degenerate
    field: str | None
    observed: float
    usual: float

    def is_over(self, limit: float, rows: int) -> bool:
        """Return whether the share exceeds the usual one by a share of the other rows, and by more than chance."""
        chance = CHANCE * math.sqrt(self.usual * (1 - self.usual) / rows)
        return self.observed > self.usual + max(limit * (1 - self.usual), chance)


@dataclass(frozen=True)
class UsualShares:
    """The shares of the rows that a version was trained on.

    Attributes:
        identical: the share of the most frequent score; None if the reference has no scores.
        nulls, unseen: by field, the share that 99 of 100 of its days do not exceed.
    """

    identical: float | None
    nulls: Mapping[str, float]
    unseen: Mapping[str, float]

    @classmethod
    def of(cls, served: ServedModel) -> "UsualShares":
        """Return the shares of the reference of a served version.

        Raises:
            ContractError: it is not a sketch of training rows.
        """
        sketch = served.model.reference
        columns = Reference.of(sketch, model=served.name).columns
        fields = {its.name: columns[its.name] for its in served.inputs.fields if its.name in columns}
        score = columns.get(SCORE)
        identical = None
        if isinstance(score, NumericReference) and score.cells.values:
            at_value = score.cells.up_to - score.cells.under
            identical = float(at_value.max()) / float(score.counts.sum())
        return cls(
            identical,
            {name: it.usual.null_high for name, it in fields.items()},
            {
                name: it.usual.new_category_share or 0.0
                for name, it in fields.items()
                if isinstance(it, CategoricalReference)
            },
        )

    @property
    def default(self) -> float:
        """The largest possible share of rows without any known value: that of the field that most often has one."""
        return min((min(1.0, share + self.unseen.get(name, 0.0)) for name, share in self.nulls.items()), default=1.0)


def shares(observed: Observed, usual: UsualShares) -> Iterator[Share]:
    """Yield the shares of a window beside those of the reference."""
    rows = observed.rows
    if usual.identical is not None:
        yield Share("identical_scores", None, observed.identical / rows, usual.identical)
    yield Share("default_path", None, observed.default / rows, usual.default)
    for name, share in usual.unseen.items():
        yield Share("unseen_categories", name, observed.unseen.get(name, 0) / rows, share)
    for name, share in usual.nulls.items():
        yield Share("nulls", name, observed.nulls.get(name, 0) / rows, share)


def is_alarming(share: Share, limits: AlarmLimits, rows: int) -> bool:
    """Return whether a share is above its declared limit."""
    limit: Mapping[Degenerate, float] = {
        "identical_scores": limits.identical_scores, "default_path": limits.default_path,
        "unseen_categories": limits.unseen_categories, "nulls": limits.nulls,
    }  # fmt: skip
    return share.is_over(limit[share.what], rows)
