"""Which models a sensor has to look at: those of which something was made since its last look, and those that wait.

The cursor only saves work: at every tick some models are looked at in turn, whatever it says. An event may be lost, a
declaration may change, and a person may promote a model.
"""

from collections.abc import Collection, Sequence
from typing import Final

import dagster as dg
from pydantic import BaseModel, ConfigDict, ValidationError

from ml_assets.automation.history import Seen, materialized_since, newest_number
from ml_assets.declaration.model import ModelDeclaration

TOLD: Final = 10
MOST_LOOKS: Final = 100
"""Models that one tick looks at; two months of reports are read of each, in a hundredth of a second."""

IN_TURN: Final = 5
"""Models that one tick looks at in turn."""


class Cursor(BaseModel):
    """What was looked at, and the models to look at again whatever happens.

    Attributes:
        last: the number of the newest materialization that was read.
        recent: those shortly before it.
        waiting: models to look at next whatever happens, in this order: those that a tick had no room for, and those
            that ask for something and are held back, or whose run may not have come to be.
        turn: how many models were looked at in turn before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    last: int
    recent: tuple[int, ...] = ()
    waiting: tuple[str, ...] = ()
    turn: int = 0


def changed_models(
    context: dg.SensorEvaluationContext, models: Sequence[ModelDeclaration], stage: str
) -> tuple[Cursor, list[ModelDeclaration]]:
    """Return the models whose stage or champion was made since the last look, those that wait, and some in turn.

    Those that one tick has no room for wait in the cursor. Where that is lost, or cannot be read, all are looked at.
    """
    try:
        before = Cursor.model_validate_json(context.cursor) if context.cursor else None
    except ValidationError:
        context.log.warning("the cursor cannot be read; every model is looked at.")
        before = None
    if before is None:
        return _bounded(Cursor(last=newest_number(context.instance)), models)
    made, seen, _ = materialized_since(context.instance, Seen(before.last, before.recent))
    in_turn = {models[(before.turn + n) % len(models)].name for n in range(min(IN_TURN, len(models)))}
    changed = [
        it
        for it in models
        if it.name in before.waiting
        or it.name in in_turn
        or not made.keys().isdisjoint({dg.AssetKey([it.name, stage]), dg.AssetKey([it.name, "champion"])})
    ]
    order = {name: number for number, name in enumerate(before.waiting)}
    changed.sort(key=lambda it: order.get(it.name, len(order)))
    turn = (before.turn + len(in_turn)) % max(1, len(models))
    return _bounded(Cursor(last=seen.last, recent=seen.recent, turn=turn), changed)


def _bounded(cursor: Cursor, changed: Sequence[ModelDeclaration]) -> tuple[Cursor, list[ModelDeclaration]]:
    left = tuple(it.name for it in changed[MOST_LOOKS:])
    return cursor.model_copy(update={"waiting": left}), [*changed[:MOST_LOOKS]]


def next_cursor(cursor: Cursor, waiting: Collection[str]) -> str:
    """Return the cursor to keep: what was left first, so that nobody who waits keeps the others from their turn."""
    return cursor.model_copy(update={"waiting": (*cursor.waiting, *sorted(waiting))}).model_dump_json()


def said(
    lines: Sequence[str],
    models: Sequence[ModelDeclaration],
    changed: Sequence[ModelDeclaration],
    left: Collection[str] = (),
) -> str:
    """Return what a tick that asks for nothing says: a line a model, as far as there is room."""
    unchanged = len(models) - len(changed) - len(left)
    told = [*lines[:TOLD], *([f"and {len(lines) - TOLD} more models"] if len(lines) > TOLD else [])]
    quiet = [f"{unchanged} of {len(models)} models have nothing new"] if unchanged else []
    later = [f"{len(left)} models are looked at in the next ticks"] if left else []
    return "\n".join([*told, *later, *quiet]) or "no model is declared."
