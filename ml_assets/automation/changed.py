"""Which models a sensor must check: those with new materializations, those that wait, and some others in turn.

The cursor only saves work. Every tick also checks some models in turn, because an event may be lost, a declaration may
change, or a person may promote a model.
"""

from collections.abc import Collection, Sequence
from typing import Final

import dagster as dg
from pydantic import BaseModel, ConfigDict, ValidationError

from ml_assets.automation.history import ReadPosition, materialized_since, newest_number
from ml_assets.declaration.model import ModelDeclaration

LINES_SHOWN: Final = 10
MOST_LOOKS: Final = 100
"""The most models that one tick checks. Reading two months of reports of one model takes a hundredth of a second."""

IN_TURN: Final = 5
"""The number of models that one tick checks in turn."""


class ModelsCursor(BaseModel):
    """The materializations that were read, and the models to check at the next tick.

    Attributes:
        last: the number of the newest materialization that was read.
        recent: the numbers shortly before it.
        waiting: the models to check at the next tick in any case, in this order: first those that exceeded the limit of
            a tick, then those whose retraining is held back or whose run may not have started.
        turn: how many models were checked in turn before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    last: int
    recent: tuple[int, ...] = ()
    waiting: tuple[str, ...] = ()
    turn: int = 0


def changed_models(
    context: dg.SensorEvaluationContext, models: Sequence[ModelDeclaration], stage: str
) -> tuple[ModelsCursor, list[ModelDeclaration]]:
    """Return the models with a new materialization of the stage or champion, those that wait, and some in turn.

    Models beyond the limit of one tick wait in the cursor. Without a readable cursor, all models are checked.
    """
    try:
        before = ModelsCursor.model_validate_json(context.cursor) if context.cursor else None
    except ValidationError:
        context.log.warning("the cursor cannot be read; all models are checked.")
        before = None
    if before is None:
        return _bounded(ModelsCursor(last=newest_number(context.instance)), models)
    materialized, seen, _ = materialized_since(context.instance, ReadPosition(before.last, before.recent))
    in_turn = {models[(before.turn + n) % len(models)].name for n in range(min(IN_TURN, len(models)))}
    changed = [
        it
        for it in models
        if it.name in before.waiting
        or it.name in in_turn
        or not materialized.keys().isdisjoint({dg.AssetKey([it.name, stage]), dg.AssetKey([it.name, "champion"])})
    ]
    order = {name: number for number, name in enumerate(before.waiting)}
    changed.sort(key=lambda it: order.get(it.name, len(order)))
    turn = (before.turn + len(in_turn)) % max(1, len(models))
    return _bounded(ModelsCursor(last=seen.last, recent=seen.recent, turn=turn), changed)


def _bounded(cursor: ModelsCursor, changed: Sequence[ModelDeclaration]) -> tuple[ModelsCursor, list[ModelDeclaration]]:
    left = tuple(it.name for it in changed[MOST_LOOKS:])
    return cursor.model_copy(update={"waiting": left}), [*changed[:MOST_LOOKS]]


def next_cursor(cursor: ModelsCursor, waiting: Collection[str]) -> str:
    """Return the new cursor. Models left over come first, so that waiting models cannot delay them forever."""
    return cursor.model_copy(update={"waiting": (*cursor.waiting, *sorted(waiting))}).model_dump_json()


def skip_reason(
    lines: Sequence[str],
    models: Sequence[ModelDeclaration],
    changed: Sequence[ModelDeclaration],
    left: Collection[str] = (),
) -> str:
    """Return the skip reason of a tick: one line per model, up to a limit."""
    unchanged = len(models) - len(changed) - len(left)
    shown = [
        *lines[:LINES_SHOWN],
        *([f"and {len(lines) - LINES_SHOWN} more models"] if len(lines) > LINES_SHOWN else []),
    ]
    quiet = [f"{unchanged} of {len(models)} models have nothing new"] if unchanged else []
    later = [f"{len(left)} models are checked at the next ticks"] if left else []
    return "\n".join([*shown, *later, *quiet]) or "no model is declared."
