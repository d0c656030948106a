"""Which models a sensor must check: those with new materializations, those that wait, and some others in turn.

The cursor only saves work. Every tick also checks some models in turn, because an event may be lost, a declaration may
change, or a person may promote a model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import dagster as dg

from ml_assets.automation.history import ReadPosition, materialized_since, newest_number
from ml_assets.automation.ticks import read_cursor, report_tick
from ml_assets.contracts.json_record import Record
from ml_assets.declaration.model import ModelDeclaration

LINES_SHOWN: Final = 10
MOST_LOOKS: Final = 100
"""The most models that one tick checks. Reading two months of reports of one model takes a hundredth of a second."""

IN_TURN: Final = 5
"""The number of models that one tick checks in turn."""


class ModelsCursor(Record):
    """The materializations that were read, and the models to check at the next tick.

    Attributes:
        last: the number of the newest materialization that was read.
        recent: the numbers shortly before it.
        waiting: the models to check at the next tick in any case, in this order: first those that exceeded the limit of
            a tick, then those whose retraining is held back or whose run may not have started.
        turn: how many models were checked in turn before.
    """

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
    problem = "the cursor cannot be read; all models are checked."
    before = read_cursor(ModelsCursor, context.cursor, context.log.warning, problem)
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


@dataclass
class ModelsTick:
    """What one tick found about models.

    Attributes:
        requests: the runs to request.
        waiting: the models to check again even without a new event, because what they wait for may end, or a damaged
            file may be restored.
        lines: a sentence for each model.
        problems: the models that could not be checked, and why.
    """

    requests: list[dg.RunRequest] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add_problem(self, model: str, error: Exception) -> None:
        """Add a model that could not be checked."""
        self.problems.append(f"{model}: {error}")
        self.waiting.add(model)

    def sensor_result(
        self,
        context: dg.SensorEvaluationContext,
        cursor: ModelsCursor,
        models: Sequence[ModelDeclaration],
        changed: Sequence[ModelDeclaration],
    ) -> dg.SensorResult:
        """Log the tick, and return its result. In the cursor, models left over come before those that wait.

        Otherwise waiting models could delay them forever.

        Raises:
            LakeError: models could not be checked, and no run is requested.
        """
        report_tick(context.log, self.requests, self.lines, self.problems)
        after = cursor.model_copy(update={"waiting": (*cursor.waiting, *sorted(self.waiting))})
        return dg.SensorResult(
            run_requests=self.requests,
            skip_reason=None if self.requests else self.skip_reason(len(models), len(changed), len(cursor.waiting)),
            cursor=after.model_dump_json(),
        )

    def skip_reason(self, models: int, changed: int, left: int = 0) -> str:
        """Return a line per checked model, up to a limit, and how many models were not checked."""
        unchanged, more = models - changed - left, len(self.lines) - LINES_SHOWN
        lines = [
            *self.lines[:LINES_SHOWN],
            f"and {more} more models" if more > 0 else "",
            f"{left} models are checked at the next ticks" if left else "",
            f"{unchanged} of {models} models have nothing new" if unchanged else "",
        ]
        return "\n".join(filter(None, lines)) or "no model is declared."
