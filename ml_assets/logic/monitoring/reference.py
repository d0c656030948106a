"""The reference: a parsed sketch of the rows that a model was trained on, with which later days are compared.

Not here: making the sketch (see `ml_assets.logic.monitoring.sketch`), and measuring a day (see
`ml_assets.logic.monitoring.drift`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.training import Feature
from ml_assets.contracts.errors import ContractError
from ml_assets.logic.monitoring.distances import (
    Cells,
    Counts,
    Profiles,
    Vector,
    by_bin,
    side_by_side,
)

Kind = Literal["numeric", "categorical", "score"]

SCORE: Final = "score"

REFERENCE_SCHEMA: Final = pl.Schema(
    {
        "feature": pl.String, "kind": pl.String, "part": pl.String, "bin": pl.Int64, "value": pl.Float64,
        "category": pl.String, "rows": pl.Int64, "rows_at_value": pl.Int64, "total": pl.Float64,
    }
)  # fmt: skip
"""`part` is "cell" (a range up to and including `value`; `total` is the sum of its values), "category", "missing", or a
figure in `value`: "spread" (the standard deviation), "usual_psi", "usual_null_low", "usual_null_high",
"usual_new_category_share" and "usual_rows"; by the hour, the latter also of whole days, with `OF_DAYS` before."""


USUAL_PARTS: Final = ("usual_psi", "usual_null_low", "usual_null_high", "usual_new_category_share", "usual_rows")
"""The parts of the sketch that hold the usual range, in the order of `Usual`."""
OF_DAYS: Final = "day_"
"""Before the parts of the usual range of whole days."""


def has_days(sketch: pl.DataFrame) -> bool:
    """Return whether a sketch has the usual range of whole days, by the hour."""
    return sketch["part"].str.starts_with(OF_DAYS).any()


@dataclass(frozen=True)
class Usual:
    """The usual range of a column: how 99 of 100 of the reference's own days compare with the whole reference.

    Attributes:
        psi: upper limit of the PSI beyond sampling error; see `psi_beyond_sampling`.
        new_category_share: upper limit of the share of rows with a new category, as `is_new_category` in
            `ml_assets.logic.monitoring.sketch` defines it; None for numbers.
        rows: median number of rows of a day.
    """

    psi: float
    null_low: float
    null_high: float
    new_category_share: float | None
    rows: float


@dataclass(frozen=True)
class NumericReference:
    """The reference of a numeric column.

    Attributes:
        cells: The values relative to the upper edge of each cell; the first cell is the minimum alone.
        last_of_bin: (bins,) position of the last cell of each bin.
        counts: (bins + 3,) rows, from `by_bin`.
        spread: The standard deviation, if it is finite.
    """

    cells: Cells
    last_of_bin: Counts
    counts: Counts
    spread: float | None
    usual: Usual


@dataclass(frozen=True)
class CategoricalReference:
    """The reference of a categorical column.

    Attributes:
        bin_of: The bin of each category, and of None, a missing value.
        counts: (bins + 2,) rows in each bin, of new categories, and missing.
    """

    bin_of: Mapping[str | None, int]
    counts: Counts
    usual: Usual


@dataclass(frozen=True)
class Reference:
    """A parsed sketch, with which many days are compared."""

    columns: Mapping[str, NumericReference | CategoricalReference]
    kinds: Mapping[str, Kind]

    @classmethod
    def of(cls, sketch: pl.DataFrame, *, model: str, of_days: bool = False) -> Reference:
        """Parse the output of `sketch_reference`.

        By the hour, `of_days` returns the reference with which whole days are compared (see `has_days`).

        Raises:
            ContractError: The frame is not a sketch.
        """
        if sketch.schema != REFERENCE_SCHEMA or sketch.height == 0:
            got = ", ".join(f"{name} {dtype}" for name, dtype in sketch.schema.items()) or "no column"
            raise ContractError(
                f"the reference of model '{model}' has {sketch.height} rows of {got}; expected the sketch of its "
                f"training rows with {', '.join(REFERENCE_SCHEMA)}. Train the model again."
            )
        if of_days:
            daily = sketch.filter(pl.col("part").str.starts_with(OF_DAYS))
            own = daily.with_columns(pl.col("part").str.strip_prefix(OF_DAYS))
            sketch = pl.concat([sketch.filter(~pl.col("part").is_in(USUAL_PARTS)), own])
        kinds: dict[str, Kind] = dict(sketch.select("feature", "kind").unique(maintain_order=True).iter_rows())
        parts = sketch.partition_by("feature", "part", as_dict=True)
        read = {name: _read_categories if kind == "categorical" else _read_numbers for name, kind in kinds.items()}
        return cls({name: read[name](parts, name, sketch.clear()) for name in kinds}, kinds)

    def without(self, names: Collection[str]) -> Reference:
        """Return the reference without some columns."""
        return Reference(
            {name: it for name, it in self.columns.items() if name not in names},
            {name: it for name, it in self.kinds.items() if name not in names},
        )

    @cached_property
    def features(self) -> list[Feature]:
        """The columns, as `check_columns` takes them."""
        return [Feature(name=name, dtype="", is_categorical=kind == "categorical") for name, kind in self.kinds.items()]

    @cached_property
    def null_shares(self) -> Vector:
        """(columns,) the shares of missing values."""
        return np.array([column.counts[-1] / column.counts.sum() for column in self.columns.values()])

    @cached_property
    def numbers(self) -> dict[int, NumericReference]:
        """Numeric columns that have values, by position. Only these have distances."""
        return {
            n: it for n, it in enumerate(self.columns.values()) if isinstance(it, NumericReference) and it.cells.values
        }

    @cached_property
    def profiles(self) -> Profiles:
        """The distribution functions of the numeric columns, of which there must be at least one."""
        return Profiles.of([it.cells for it in self.numbers.values()])

    @cached_property
    def spreads(self) -> Vector:
        """(numeric columns,) their standard deviations; NaN if not finite."""
        return np.array([it.spread or math.nan for it in self.numbers.values()])

    @cached_property
    def counts(self) -> Counts:
        """(columns, bins) rows."""
        return side_by_side([column.counts for column in self.columns.values()])

    @cached_property
    def usual_psi(self) -> Vector:
        """(columns,) the upper limit of the PSI beyond sampling error on the reference's own days."""
        return np.array([column.usual.psi for column in self.columns.values()])

    @cached_property
    def usual_rows(self) -> float:
        """Median number of rows of the reference's own days, the same for all columns."""
        return next(iter(self.columns.values())).usual.rows


_Parts = Mapping[tuple[object, ...], pl.DataFrame]


def _read_numbers(parts: _Parts, name: str, nothing: pl.DataFrame) -> NumericReference:
    frame = parts.get((name, "cell"), nothing)
    up_to = frame["rows"].to_numpy().cumsum()
    cells = Cells(
        edges=frame["value"].to_numpy(),
        values=int(frame["rows"].sum()),
        under=up_to - frame["rows_at_value"].to_numpy(),
        up_to=up_to,
        total=frame["total"].to_numpy(),
    )
    last_of_bin = np.flatnonzero(np.diff(frame["bin"].to_numpy(), append=-1))
    return NumericReference(
        cells=cells,
        last_of_bin=last_of_bin,
        counts=by_bin(cells, last_of_bin, parts[name, "missing"].item(0, "rows")),
        spread=parts[name, "spread"].item(0, "value"),
        usual=_read_usual(parts, name),
    )


def _read_categories(parts: _Parts, name: str, nothing: pl.DataFrame) -> CategoricalReference:
    known = parts.get((name, "category"), nothing)
    counts = np.bincount(known["bin"].to_numpy(), weights=known["rows"].to_numpy()).astype(np.int64)
    return CategoricalReference(
        bin_of={**dict(known.select("category", "bin").iter_rows()), None: len(counts) + 1},
        counts=np.append(counts, [0, parts[name, "missing"].item(0, "rows")]),
        usual=_read_usual(parts, name),
    )


def _read_usual(parts: _Parts, name: str) -> Usual:
    return Usual(*(parts[name, part].item(0, "value") for part in USUAL_PARTS))
