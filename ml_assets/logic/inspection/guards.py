"""Guards against leaks in a table of which nothing is declared: columns that give the answer away, with a figure each.

A suspect is left out of the first model. A note is only shown: a name, for instance, proves nothing. Not here: leaks
that a rebuild of declared features proves (see `ml_assets.logic.point_in_time.leak_test`).
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import polars as pl

from ml_assets.contracts.days import moments_of
from ml_assets.logic.inspection.candidates import Candidates, LeakFinding
from ml_assets.logic.inspection.lone_columns import lone_predictors
from ml_assets.logic.inspection.neighbours import lags_of_target, windows_of_target
from ml_assets.logic.inspection.strength import Outcomes, explained_alone, explained_by, explained_together, figure

LATE: Final = 0.01
SAME: Final = 0.999
STRONG: Final = 0.6
LESS_STRONG: Final = 0.5
STRIKING: Final = 0.35
TIMES_THE_OTHERS: Final = 3
DISTINCT: Final = 0.95
CONTIGUOUS: Final = 0.98
FEWEST_VALUES: Final = 50
DENSE: Final = 0.5
MOST_MEASURED: Final = 10
FEW_MISSING: Final = 0.005
DUPLICATES: Final = 0.01
GAP: Final = 0.1
MOVED: Final = 0.3
ALL_COLUMNS: Final = "(all columns)"
TELLING: Final = re.compile(
    r"(?i)(^|_)(final|outcome|result|closed|resolved|settled|actual|refund\w*|target|label|response|after|post)(_|$)"
)


def find_leaks(table: Candidates) -> tuple[LeakFinding, ...]:
    """Return what the guards found. A column is left out by the first guard that proves something about it."""
    found: list[LeakFinding] = []
    left = table.columns
    for guard in (
        lags_of_target,
        _known_later,
        _copies,
        _sums,
        _missing,
        _identifiers,
        _markers_of_time,
        windows_of_target,
    ):
        new = guard(_only(table, left))
        found += new
        left = tuple(name for name in left if name not in {it.column for it in new if it.verdict != "noted"})
    cleared = [it.column for it in found if it.verdict == "cleared"]
    found += _golden(_only(table, left), also=cleared)
    out = {it.column for it in found if it.verdict == "left out"}
    used = _only(table, tuple(it for it in table.columns if it not in out))
    noted = [*_strongest(used), *_names(used), *_duplicates(used), *_random_against_time(used)]
    return (*_with_added(found, used), *noted)


def _with_added(found: Sequence[LeakFinding], used: Candidates) -> list[LeakFinding]:
    """Return the findings with what each column that is left out would have added, for the first few."""
    few = used.few()
    usable = [it for it in used.columns if not used.rows.schema[it].is_temporal()]
    base: float | None = None
    made, result = 0, []
    for it in found:
        if it.verdict == "left out" and not used.rows.schema[it.column].is_temporal() and made < MOST_MEASURED:
            made += 1
            base = explained_together(few.rows, usable, few.outcomes) if base is None else base
            added = explained_together(few.rows, [*usable, it.column], few.outcomes) - base
            result.append(replace(it, added=max(0.0, added)))
        else:
            result.append(it)
    return result


def _only(table: Candidates, columns: Sequence[str]) -> Candidates:
    return replace(table, columns=tuple(columns))


def _known_later(table: Candidates) -> list[LeakFinding]:
    """Times after the prediction, and columns that have a value exactly when such a time has one."""
    if table.time is None:
        return []
    found, asked = [], moments_of(table.rows[table.time], table.timezone)
    for column in table.series:
        if not column.dtype.is_temporal():
            continue
        late = figure((moments_of(column, table.timezone) > asked).fill_null(value=False).mean())
        if late <= LATE:
            continue
        found.append(
            LeakFinding(
                column.name, "known later", late, f"is later than the prediction time in {late:.1%} of the rows."
            )
        )
        if not 0 < column.null_count() < column.len():
            continue
        is_there = column.is_not_null()
        for other in table.series:
            same = figure((other.is_not_null() == is_there).mean())
            if other.name != column.name and same >= SAME and not other.dtype.is_temporal():
                sentence = (
                    f"has a value when '{column.name}' has one, in {same:.2%} of the rows, so it is known as late."
                )
                found.append(LeakFinding(other.name, "known later", same, sentence))
    return found


def _copies(table: Candidates) -> list[LeakFinding]:
    """Columns whose value determines the target: equal, mapped one to one, or monotone."""
    target, found = table.rows[table.target], []
    for column in table.series:
        known = pl.DataFrame({"x": column, "y": target}).drop_nulls()
        if known.height < max(20, table.rows.height // 20):
            continue
        groups = known.group_by("x").agg(
            rows=pl.len(),
            largest=pl.col("y").value_counts(sort=True).first().struct.field("count"),
        )
        repeated = groups.filter(pl.col("rows") > 1)
        rows = int(repeated["rows"].sum())
        pure = figure(repeated["largest"].sum()) / rows if rows else 0.0
        if pure >= SAME and rows >= known.height / 2 and _by_chance(known) < SAME:
            sentence = f"each of its values belongs to one value of the target, in {pure:.2%} of the rows."
            found.append(LeakFinding(column.name, "copy of the target", pure, sentence))
        elif table.task == "regression" and column.dtype.is_numeric():
            rank = abs(figure(known.select(pl.corr("x", "y", method="spearman")).item()))
            if rank >= SAME:
                sentence = f"rises or falls with the target: rank correlation {rank:.4f}."
                found.append(LeakFinding(column.name, "copy of the target", rank, sentence))
    return found


def _by_chance(known: pl.DataFrame) -> float:
    """Return the share of the most frequent target, which a column without information also reaches."""
    return float(known["y"].value_counts(sort=True)["count"][0] / known.height)


def _sums(table: Candidates) -> list[LeakFinding]:
    """Numbers whose weighted sum is the target exactly, such as its parts."""
    if table.task != "regression":
        return []
    names = [it.name for it in table.series if it.dtype.is_numeric() and it.null_count() == 0 and it.n_unique() > 2]
    if not names or table.rows.height < 3 * len(names):
        return []
    y = table.rows[table.target].cast(pl.Float64).to_numpy()
    matrix = table.rows.select(pl.col(names).cast(pl.Float64)).to_numpy()
    scale = matrix.std(axis=0)
    used = np.flatnonzero(scale > 0)
    design = np.column_stack([(matrix[:, used] - matrix[:, used].mean(axis=0)) / scale[used], np.ones(len(y))])
    weights, *_ = np.linalg.lstsq(design, y, rcond=None)
    error = y - design @ weights
    explained = 1 - float(error.var() / y.var()) if y.var() else 0.0
    if explained < 1 - 1e-6:
        return []
    parts = [names[used[n]] for n, weight in enumerate(weights[:-1]) if abs(weight) > 1e-3 * y.std()]
    sentence = f"the target is a weighted sum of {', '.join(repr(it) for it in parts)}: R² {explained:.6f}."
    return [LeakFinding(name, "sum of the target", explained, sentence) for name in parts]


def _missing(table: Candidates) -> list[LeakFinding]:
    """Columns of which it is the target, or one class of several, whether they have a value."""
    few = table.few()
    found, each = [], few.outcomes.of_classes
    for column in few.series:
        share = column.null_count() / column.len()
        if not FEW_MISSING < share < 1 - FEW_MISSING:
            continue
        missing = column.is_null().alias(column.name)
        explained, outcomes = max(((explained_by(missing, it), it) for it in each), key=lambda it: it[0])
        if explained >= STRONG or (explained >= LESS_STRONG and _outdoes_others(few, column.name, explained, outcomes)):
            of = "the variance of one class" if table.task == "multiclass" else "the target's variance"
            sentence = f"whether it has a value explains {explained:.1%} of {of}."
            found.append(LeakFinding(column.name, "missing values", explained, sentence))
    return found


def _outdoes_others(table: Candidates, name: str, explained: float, outcomes: Outcomes) -> bool:
    """Return whether what a column explains is several times what all others explain together, if there are others."""
    others = [it for it in table.columns if it != name and not table.rows.schema[it].is_temporal()]
    return bool(others) and explained >= TIMES_THE_OTHERS * explained_together(table.rows, others, outcomes)


def _identifiers(table: Candidates) -> list[LeakFinding]:
    """Texts and whole numbers that are different in nearly every row: what is learnt of one says nothing of others."""
    found = []
    for column in table.series:
        if column.dtype.is_float() or column.dtype.is_temporal() or column.dtype == pl.Boolean:
            continue
        used = column.drop_nulls()
        share = used.n_unique() / used.len() if used.len() else 0.0
        is_numbered = share == 1 and _is_dense(used) if column.dtype.is_integer() else share >= DISTINCT
        if is_numbered and used.len() > FEWEST_VALUES:
            found.append(
                LeakFinding(
                    column.name, "identifier", share, f"{share:.1%} of its values occur once: it identifies rows."
                )
            )
    return found


def _is_dense(numbers: pl.Series) -> bool:
    """Return whether distinct whole numbers are numbered through, as identifiers are and measurements are not."""
    return numbers.len() >= DENSE * (figure(numbers.max()) - figure(numbers.min()) + 1)


def _markers_of_time(table: Candidates) -> list[LeakFinding]:
    """Codes of which each value belongs to one stretch of time, such as the name of a file or a batch."""
    if table.time is None:
        return []
    found = []
    for column in table.series:
        if (
            column.dtype.is_float()
            or column.dtype.is_temporal()
            or column.null_count()
            or not 3 < column.n_unique() < column.len() / 5
        ):
            continue
        codes = column.rank("dense").to_numpy()
        stretches = 1 + int((codes[1:] != codes[:-1]).sum())
        share = column.n_unique() / stretches
        if share >= CONTIGUOUS:
            sentence = f"{share:.1%} of its values belong to one stretch of time, so every prediction has a new one."
            found.append(LeakFinding(column.name, "marker of time", share, sentence))
    return found


def _golden(table: Candidates, *, also: Sequence[str]) -> list[LeakFinding]:
    """Columns that alone predict the target, and seem to follow from it. Cleared columns are among the others."""
    found = lone_predictors(
        table.rows, table.columns, table.target, table.task, event_time=table.time, entity=table.entity, also=also
    )
    sentence = "alone explains {:.1%} of the target's variance, all others together {:.1%}; it {}."
    return [
        LeakFinding(it.column, "golden feature", it.power, sentence.format(it.power, it.rest, it.evidence))
        for it in found
    ]


def _strongest(table: Candidates) -> list[LeakFinding]:
    """The strongest column, if it explains several times what all others do; a note, because it may be honest."""
    few = table.few()
    usable = [it for it in few.columns if not few.rows.schema[it].is_temporal()]
    name, explained = next(iter(explained_alone(few.rows, usable, few.outcomes).items()), ("", 0.0))
    if explained < STRIKING or not _outdoes_others(few, name, explained, few.outcomes):
        return []
    sentence = (
        f"alone explains {explained:.1%} of the target's variance, more than {TIMES_THE_OTHERS} times what all others "
        "explain together; make sure that it is known at the prediction time."
    )
    return [LeakFinding(name, "golden feature", explained, sentence, "noted")]


def _names(table: Candidates) -> list[LeakFinding]:
    """Names that sound like an outcome; a note, because a name proves nothing."""
    return [
        LeakFinding(
            name, "name", 0.0, "its name sounds like something known afterwards; make sure that it is not.", "noted"
        )
        for name in table.columns
        if TELLING.search(name)
    ]


def _duplicates(table: Candidates) -> list[LeakFinding]:
    """Rows that are equal in all features and the target; with a random split they are on both sides."""
    columns = [*table.columns, table.target]
    share = 1 - table.rows.select(columns).n_unique() / table.rows.height
    if share < DUPLICATES:
        return []
    sentence = f"{share:.1%} of the rows repeat another in all features and the target."
    return [LeakFinding(ALL_COLUMNS, "duplicate rows", share, sentence, "noted")]


def _random_against_time(table: Candidates) -> list[LeakFinding]:
    """A model that is much better on random rows than on later ones: because of drift, or of what rows share."""
    if table.time is None or not table.columns:
        return []
    few = table.few()
    usable = [it for it in few.columns if not few.rows.schema[it].is_temporal()]
    by_time = Outcomes.in_time(few.rows[few.target], few.task)
    random = explained_together(few.rows, usable, Outcomes.of(few.rows[few.target], few.task))
    later = explained_together(few.rows, usable, by_time)
    if random - later < GAP:
        return []
    is_late = pl.Series("is late", by_time.fold == by_time.fold.max())
    moved = explained_alone(few.rows, usable, Outcomes.of(is_late, "binary"))
    name, explained = next(iter(moved.items()))
    if explained >= MOVED:
        why = f"it is drift: '{name}' alone tells {explained:.0%} of late rows from earlier ones"
    elif few.entity is not None:
        why = f"rows of one '{few.entity}' resemble each other, and a random split puts them on both sides"
    else:
        why = "no column moves by itself, so the relation to the target changes, or neighbouring rows share something"
    sentence = (
        f"a quick model explains {random:.1%} of the variance of random rows and {later:.1%} of later ones; {why}."
    )
    return [LeakFinding(ALL_COLUMNS, "random against time", random - later, sentence, "noted")]
