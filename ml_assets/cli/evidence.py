"""The lines with which `ml-assets new` shows what it found, and why."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ml_assets.contracts.words import counted

if TYPE_CHECKING:
    import polars as pl

    from ml_assets.authoring.event_table import EventTable
    from ml_assets.authoring.new_model import NewModel
    from ml_assets.authoring.source import FoundTable
    from ml_assets.logic.inspection.candidates import LeakFinding
    from ml_assets.logic.inspection.choices import Choice
    from ml_assets.logic.inspection.roles import Roles

LABELS: Final[Mapping[str, str]] = {
    "task": "task", "positive": "positive class", "key": "key", "time": "time of the prediction",
    "known": "row known at", "label_known": "label known at", "grain": "partition", "group": "group",
    "split": "split", "metric": "metric", "weight": "row weight", "entity": "entity", "row_key": "key of an event",
    "event_time": "time of an event",
}  # fmt: skip
_NO_KEY: Final = ("row_key", "no columns identify a row; equal rows cannot be told apart", "uncertain")
_SHOWN: Final = 3
_HEAD: Final = ("what", "choice", "evidence", "confidence")


def role_lines(table: "FoundTable", target: str, roles: "Roles") -> Iterator[str]:
    """Return what was found about a table with a target."""
    rows = [
        *_table_rows(table),
        ("target", target, f"{table.rows[target].null_count():,} missing", "given"),
        *_choice_rows(roles.choices),
        *([] if roles.key is not None else [(LABELS["key"], *_NO_KEY)]),
    ]
    return _table(_HEAD, rows)


def event_lines(events: "EventTable") -> Iterator[str]:
    """Return what was found about the events, and who is predicted."""
    population, windows = events.population, ", ".join(map(str, events.windows))
    rows = [
        *_table_rows(events.found),
        *_choice_rows(events.roles.choices),
        *([(LABELS["row_key"], *_NO_KEY)] if events.has_row_key else []),
        ("horizon", events.horizon.words, "--horizon says so", "given"),
        *([("event", events.condition, "--event-where says so", "given")] if events.condition else []),
        ("population", population.why, *(("", "given") if population.is_given else ("no --population says", "likely"))),
        ("features", f"events of {windows} days", f"there are {events.days.count:,} days with events", "likely"),
    ]
    return _table(_HEAD, rows)


def prediction_lines(events: "EventTable", rows: "pl.DataFrame", roles: "Roles") -> Iterator[str]:
    """Return how many predictions there are, how many have no label yet, and what was chosen for them."""
    labels, times = rows[events.target], rows["predicted_at"].dt.to_string("%Y-%m-%d %H:%M").unique().sort()
    known, positives = labels.drop_nulls(), int(labels.sum())
    yield (
        f"\npredictions: {counted(rows.height, 'row')} of {rows[events.entity.name].n_unique():,} "
        f"{events.entity.source} at {counted(times.len(), 'time')}, {times[0]} to {times[-1]}"
    )
    share = f"{positives:,} of {known.len():,} ({positives / known.len():.1%})"
    yield f"  with an event within {events.horizon.words}: {share}"
    yield f"  without a label yet, because their {events.horizon.words} are not over: {labels.null_count():,}\n"
    yield from _table(_HEAD, [*_choice_rows(roles.choices)])


def _choice_rows(choices: "Mapping[str, Choice]") -> Iterator[tuple[str, str, str, str]]:
    for what, it in choices.items():
        yield LABELS[what], it.value, it.why, it.confidence


def _table_rows(table: "FoundTable") -> Iterator[tuple[str, str, str, str]]:
    yield "rows", f"{table.rows.height:,}", counted(table.rows.width, "column"), ""
    yield from _place_rows(table)
    for mark, value in table.csv.items():
        yield "format", f"{mark} {value!r}", "every line reads with it", "sure"
    for name, form in table.formats.items():
        why = "numbers in brackets are negative" if form == "#" else "every value reads with it"
        yield "format of", f"{name}: {form}", why, "sure"
    yield from _doubt_rows(table.doubts)
    if marks := [repr(it) for it in table.null_values if it]:
        yield "missing values", ", ".join(marks), "beside numbers, times or Booleans", "likely"


def _doubt_rows(doubts: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield one row for each doubt, with the columns that have it."""
    for doubt in dict.fromkeys(doubts.values()):
        names = [name for name, it in doubts.items() if it == doubt]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield f"type of {', '.join(names[:_SHOWN])}{more}" if names[0] else "numbers", "", doubt, "uncertain"


def _place_rows(table: "FoundTable") -> Iterator[tuple[str, str, str, str]]:
    if table.dbt_model:
        yield "dbt model", table.dbt_model, "its rows in the lake, with the types and the key of its contract", "sure"
    elif table.files > 1:
        yield "files", f"{table.files:,}, {table.kind}", "all have the same columns", "sure"
    elif table.kind != "CSV":
        yield "format", table.kind, "the content or the name of the file says so", "sure"
    if table.sheet is not None and table.sheet.others:
        why, confidence = table.sheet.why, "given" if table.sheet.is_given else "uncertain"
        yield "sheet", table.sheet.sheet, why, confidence
    if table.sheet is not None and table.sheet.header_row > 1:
        yield (
            "header row",
            str(table.sheet.header_row),
            "its cells are different texts, as many as rows below",
            "likely",
        )


def left_out_lines(model: "NewModel", leaks: "Sequence[LeakFinding]") -> Iterator[str]:
    """Return the columns that are left out for another reason than a guard's."""
    named = {it.column for it in leaks}
    if others := [(name, why) for name, why in model.left_out.items() if name not in named]:
        yield ""
        yield from _table(("left out", "reason"), others)


def guard_lines(leaks: "Sequence[LeakFinding]") -> Iterator[str]:
    """Return what the guards found."""
    if not leaks:
        yield "\nno column gives the answer away"
        return
    yield ""
    yield from _table(
        ("column", "guard", "verdict", "evidence"),
        [(it.column, it.guard, it.verdict, it.evidence) for it in leaks],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    for row in (head, *rows):
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
