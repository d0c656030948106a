"""Which models a sensor has to look at: those of which something was made since its last look, and those that wait.

What it looks for stays out.
"""

from collections.abc import Sequence
from typing import Final

import dagster as dg
from pydantic import BaseModel, ConfigDict, ValidationError

from ml_assets.declaration import ModelDeclaration
from sensors.common.history import Seen, materialized_since, newest_number

MODEL: Final = "model"
"""The tag that says whose run it is."""
TOLD: Final = 10


class Cursor(BaseModel):
    """What was looked at, and the models to look at again whatever happens.

    Attributes:
        last: the number of the newest materialization that was read.
        recent: those shortly before it.
        waiting: models that ask for something and are held back, or whose run may not have come to be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    last: int
    recent: tuple[int, ...] = ()
    waiting: tuple[str, ...] = ()


def changed_models(
    context: dg.SensorEvaluationContext, models: Sequence[ModelDeclaration], stage: str
) -> tuple[Cursor, list[ModelDeclaration]]:
    """Return the models whose stage or champion was made since the last look, and those that wait.

    Where the cursor is lost, or cannot be read, all of them: it only saves work.
    """
    try:
        before = Cursor.model_validate_json(context.cursor) if context.cursor else None
    except ValidationError:
        context.log.warning("the cursor cannot be read; every model is looked at.")
        before = None
    if before is None:
        return Cursor(last=newest_number(context.instance)), [*models]
    made, seen, _ = materialized_since(context.instance, Seen(before.last, before.recent))
    changed = [
        it
        for it in models
        if it.name in before.waiting
        or not made.keys().isdisjoint({dg.AssetKey([it.name, stage]), dg.AssetKey([it.name, "champion"])})
    ]
    return Cursor(last=seen.last, recent=seen.recent), changed


def said(lines: Sequence[str], models: Sequence[ModelDeclaration], changed: Sequence[ModelDeclaration]) -> str:
    """Return what a tick that asks for nothing says: a line a model, as far as there is room."""
    unchanged = len(models) - len(changed)
    told = [*lines[:TOLD], *([f"and {len(lines) - TOLD} more models"] if len(lines) > TOLD else [])]
    quiet = [f"{unchanged} of {len(models)} models have nothing new"] if unchanged else []
    return "\n".join([*told, *quiet]) or "no model is declared."
