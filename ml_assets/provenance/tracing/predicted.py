"""Finds one prediction by its key: its row, its model version and its inputs.

Not here: scoring (see `ml_assets.logic.monitoring.predictions`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from ml_assets.contracts.days import DAY
from ml_assets.contracts.periods import BY_HOUR, DAILY, Calendar, is_hour_key, is_key
from ml_assets.lake.errors import LakeError, MissingArtifactError
from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.store import Lake
from ml_assets.provenance.lineage import Lineage, backward, key_of
from ml_assets.provenance.tracing.champions import decision_phrase, read_champion_history
from ml_assets.provenance.tracing.trace import Trace, TracePart, trace_of

ID: Final = "prediction_id"
FEATURES: Final = "features"
_VERSION = r"^[0-9a-f]{32}/"


@dataclass(frozen=True)
class Predicted:
    """One row of a model's predictions, with its artifact."""

    model: str
    manifest: Manifest
    row: dict[str, Any]


def trace_prediction(lake: Lake, models: Sequence[str], prediction: str, day: str | None = None) -> Trace:
    """Return where a prediction came from: the newest one with that key, with the others named.

    `prediction` is its key, values joined by `/`, or its complete `prediction_id`.

    Raises:
        MissingArtifactError: no prediction has that key.
    """
    found: list[Predicted] = []
    problems: list[str] = []
    looked = 0
    example = ""
    is_whole = day is None or is_hour_key(day)  # all rows of the partitions count
    for model in models:
        versions = lake.versions(f"{model}/predictions", None if day is None else _partition_with(lake, model, day))
        refs = [ref for them in versions.values() for ref in them]
        for rows in lake.map(lambda ref: _rows(lake, ref, prediction), refs):
            if isinstance(rows, str):
                problems.append(rows)
                continue
            looked, example = looked + rows[1], example or rows[2]
            found += [Predicted(model, rows[0], row) for row in rows[3] if is_whole or day == str(row[DAY])]
    if not found:
        of = ", ".join(models) or "any model"
        raise MissingArtifactError(
            f"no prediction of {of}{f' on {day}' if day else ''} has the key '{prediction}'; searched {looked:,} "
            f"predictions. Give its key{f' as in {example}' if example else ''}, or its complete {ID}."
            + "".join(f"\n{problem}" for problem in problems)
        )
    found.sort(key=lambda it: (it.manifest.partition or "", it.manifest.number))
    return _trace(lake, found[-1], found[:-1], problems)


def _partition_with(lake: Lake, model: str, day: str) -> list[str]:
    """Return the partitions that may contain something of a day.

    It is the newest one that begins on the day or before: that of the day, or of its week, month or year. By the hour,
    they are all that begin on the day in some time zone. The key of an hour is that partition alone.
    """
    keys = lake.partitions(f"{model}/predictions")
    if is_hour_key(day):
        return [key for key in keys if key == day]
    hours = {it for it in Calendar(BY_HOUR).around(DAILY.first_day(day)) if it in {*keys}} if is_key(day) else set()
    longer = [key for key in keys if key <= day and not is_hour_key(key)][-1:]
    return [*longer, *sorted(hours)] or [key for key in keys if key <= day][-1:]


def _rows(lake: Lake, ref: ArtifactRef, prediction: str) -> tuple[Manifest, int, str, list[dict[str, Any]]] | str:
    """Return a day's manifest, number of rows, example of a key, and matching rows; or what is wrong with it."""
    try:
        manifest = lake.manifest(ref)
        rows = lake.get(ref, pl.DataFrame)
    except LakeError as error:
        return str(error)
    if ID not in rows.columns:
        return f"{ref} has no column '{ID}', so its rows cannot be identified."
    key = pl.col(ID).str.replace(_VERSION, "")
    plain = key.str.replace_all("%2F", "/", literal=True).str.replace_all("%25", "%", literal=True)
    chosen = rows.filter((pl.col(ID) == prediction) | (key == prediction) | (plain == prediction))
    example = "" if rows.is_empty() else re.sub(_VERSION, "", str(rows[ID][0]))
    return manifest, rows.height, example, chosen.to_dicts()


def _trace(lake: Lake, it: Predicted, others: Sequence[Predicted], problems: Sequence[str]) -> Trace:
    manifest, row = it.manifest, it.row
    whole = backward(lake, [manifest.ref])
    root = key_of(manifest.ref)
    inputs = [*whole.inputs(whole.nodes[root])]
    by = [key for key in inputs if key[0] == f"{it.model}/model"]
    rows = whole.of(key for key in inputs if key not in by)
    parts = [
        TracePart("scored from", Lineage((root,), {root: whole.nodes[root], **rows.nodes})),
        TracePart("by the model", whole.of(by)),
    ]
    log = read_champion_history(lake, it.model)
    entry = log.since(manifest.created_at)
    version = str(row.get("model_version", ""))
    who = log.history_of(version)
    if entry is None:
        who += "; there was no champion then, according to the log"
    elif entry.champion != version:
        who += f"; the champion then was {(entry.champion or 'none')[:12]}, since {decision_phrase(entry)}"
    facts = {name: _value(value) for name, value in row.items() if name not in {ID, FEATURES}}
    facts |= {"scored by": f"{it.model}/model@{version[:12]}, {who}"}
    if isinstance(row.get(FEATURES), dict):
        facts["features"] = ", ".join(f"{name} {_value(value)}" for name, value in row[FEATURES].items())
    if others:
        facts["earlier"] = "; ".join(
            f"{_value(other.row.get('score'))} by {str(other.row.get('model_version', ''))[:12]} on "
            f"{other.manifest.created_at:%Y-%m-%d %H:%M}"
            for other in reversed(others)
        )
    return trace_of(lake, f"prediction {row[ID]}", parts, facts=facts, problems=problems, about=key_of(manifest.ref))


def _value(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
