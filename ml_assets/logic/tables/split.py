"""Split rows that have no order in time: at random, stratified by class, or by group; and which rows a model has seen.

Not here: windows of time (see `ml_assets.logic.tables.training_set`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from typing import Final, Literal

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.training import HashSplit, ModelSpec
from ml_assets.contracts.days import DAY, end_of

STRATIFIED_ROWS: Final = 5_000
"""With fewer labelled rows, a random split of a classification is stratified. With as many, the shares of a class with
10 % of the rows differ between the parts by about 1 percentage point without it."""
_SALT: Final = b"ml-assets split"
_SEPARATOR: Final = "\x1f"
_CHUNK: Final = 1_000_000


@dataclass(frozen=True)
class Shares:
    """How rows up to an as-of day are split without windows.

    Attributes:
        columns: the key of the rows, or the column of the groups.
        last: the as-of day.
        folds: folds of a repeated cross-validation, which has no test part; 0 for shares.
        repeats: how often the rows are dealt into folds.
    """

    by: Literal["random", "group"]
    columns: tuple[str, ...]
    validation: float
    test: float
    last: date
    folds: int = 0
    repeats: int = 0

    def rule(self, labelled: pl.DataFrame, places: pl.Series, *, target: str, is_classification: bool) -> HashSplit:
        """Return the rule for the labelled rows; stratified for few rows of a classification that are split at random.

        If a stratified split gets further rows, its edges move a little, so a few old rows next to an edge get another
        part. No rule can avoid that: a part that never depends on other rows cannot have exact shares. `was_seen` knows
        the edges of each model. Without stratification no row moves.
        """
        if self.folds:
            return HashSplit(
                by=self.by, columns=self.columns, validation_share=1 / self.folds, test_share=0.0, folds=self.folds,
                repeats=self.repeats,
            )  # fmt: skip
        rule = HashSplit(by=self.by, columns=self.columns, validation_share=self.validation, test_share=self.test)
        if not is_classification or self.by == "group" or labelled.height >= STRATIFIED_ROWS:
            return rule
        classes = labelled.select(pl.col(target).cast(pl.String).alias("class"), places.alias("place"))
        edges = {
            str(value): self._edges(rows["place"].sort())
            for (value,), rows in sorted(classes.partition_by("class", as_dict=True).items())
        }
        return rule.model_copy(update={"edges": edges})

    def _edges(self, places: pl.Series) -> tuple[float, float]:
        """Return where test and validation end, so that both have their share of the rows, rounded."""
        ends = (math.floor(len(places) * share + 0.5) for share in (self.test, self.test + self.validation))
        test, validation = (float(places[end]) if end < len(places) else 1.0 for end in ends)
        return test, validation


def places(rows: pl.DataFrame, columns: Sequence[str], *, draw: int = 0) -> pl.Series:
    """Return the place of each row from 0 to below 1: a hash of the values of some columns as text.

    The hash is BLAKE2b (RFC 7693), which depends neither on the version of a library nor on the machine. Rows with the
    same values have the same place. A row without one of the values has none, and is in no held-out part. Each number
    of a `draw` gives other places.
    """
    text = rows.select(pl.concat_str(pl.col(columns).cast(pl.String), separator=_SEPARATOR).alias("text"))["text"]
    distinct = text.unique()
    if len(distinct) == len(text):
        return _hashed(text, draw)
    known = pl.DataFrame({"text": distinct, "place": _hashed(distinct, draw)})
    return text.to_frame().join(known, on="text", how="left", nulls_equal=True, maintain_order="left")["place"]


def _hashed(text: pl.Series, draw: int) -> pl.Series:
    filled, person = text.fill_null(""), str(draw).encode() if draw else b""
    digests = b"".join(
        blake2b(value.encode(), digest_size=8, salt=_SALT, person=person).digest()
        for start in range(0, len(filled), _CHUNK)
        for value in filled[start : start + _CHUNK].to_list()
    )
    # A double has 53 bits, so the quotient is exact and below 1.
    found = pl.Series("place", (np.frombuffer(digests, dtype=">u8") >> np.uint64(11)) / 2**53, dtype=pl.Float64)
    return pl.select(pl.when(text.is_not_null()).then(found)).to_series().alias("place") if text.null_count() else found


def parts(rule: HashSplit, place: pl.Series, classes: pl.Series | None = None) -> pl.Series:
    """Return the part of each row: train, validation or test.

    Args:
        rule: The rule.
        place: (rows,) from `places`.
        classes: (rows,) the class of each row, for a stratified split. Without it, or where it is null or unknown, a
            row is a test row only if it is one in every class.
    """
    ends = [*rule.edges.values()] or [(rule.test_share, rule.test_share + rule.validation_share)]
    test = pl.lit(min(it for it, _ in ends))
    validation = pl.lit(min(it for _, it in ends))
    if rule.edges and classes is not None:
        own = classes.cast(pl.String)
        test, validation = (
            pl.lit(own.replace_strict({name: it[end] for name, it in rule.edges.items()}, default=None)).fill_null(
                least
            )
            for end, least in ((0, test), (1, validation))
        )
    return (
        place.rename("place")
        .to_frame()
        .select(
            pl.when(pl.col("place") < test)
            .then(pl.lit("test"))
            .when(pl.col("place") < validation)
            .then(pl.lit("validation"))
            .otherwise(pl.lit("train"))
            .alias("split")
        )["split"]
    )


def was_seen(spec: ModelSpec, rows: pl.DataFrame, *, known_time: str, timezone: str = "UTC") -> pl.Series:
    """Return whether a model was trained or tuned on each row. In doubt it was.

    Rows of days after the model's last day are new to it. Of the others, only those that the split of the model's own
    training set made test rows are. The class of a row counts as the model knew it only if the label was known by the
    model's as-of day.

    Args:
        spec: The model's specification.
        rows: Rows with their day. Without the columns of the split, all rows of the model's days count as seen.
        known_time: Column with the time when the row's label became known. Without it, classes are ignored.
        timezone: Time zone of the days.
    """
    seen, rule = rows[DAY] <= spec.last_seen_day, spec.split
    if rule is None or not {*rule.columns} <= {*rows.columns}:
        return seen
    classes = None
    if {spec.target, known_time} <= {*rows.columns}:
        is_known = pl.col(known_time) < end_of(spec.as_of, timezone)
        classes = rows.select(pl.when(is_known).then(pl.col(spec.target).cast(pl.String)).alias("class"))["class"]
    return seen & (parts(rule, places(rows, rule.columns), classes) != "test")
