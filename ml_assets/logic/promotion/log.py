"""What the promotion log says: the current champion, the anchor, attempts, rollbacks; and a person's next entry of it.

Not here: the gate's own judgement (see `champion`), and writing the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Final, Literal

from ml_assets.contracts.artifacts import Model, Promotion, Task
from ml_assets.contracts.table import TableContract
from ml_assets.logic.monitoring.predictions import input_changes

GATE: Final = "gate"


def serving_since(entries: Sequence[Promotion]) -> Promotion | None:
    """Return the entry that made the last entry's champion serve; None where nobody serves.

    Args:
        entries: The log, oldest first.
    """
    since = None
    for entry in entries:
        if since is None or entry.champion != since.champion:
            since = None if entry.champion is None else entry
    return since


def standing(entries: Sequence[Promotion]) -> tuple[str, ...]:
    """Return the versions one can roll back through, oldest first; the last of them serves.

    A promotion puts a version on top. A rollback takes away all that stands above its version, so what was rolled back
    from is not met again and the next rollback goes further back. A version that comes back by a promotion, or by a
    rollback to one that was taken away, is on top again.

    Args:
        entries: The log, oldest first.
    """
    stack: list[str] = []
    for entry in entries:
        version = entry.champion
        if version is None or (stack and stack[-1] == version):
            continue
        if entry.action == "rollback" and version in stack:
            while stack[-1] != version:
                stack.pop()
        else:
            stack.append(version)
    return tuple(stack)


def anchor(entries: Sequence[Promotion]) -> str | None:
    """Return the version that no later champion may be worse than by more than the margin; None without a champion.

    A champion that may be slightly worse than the one before it, may be followed by one that is slightly worse again
    (bio-creep; D'Agostino, Massaro and Sullivan 2003, Statistics in Medicine 22:169-186). Challengers are therefore
    compared with the anchor too:

    - the first champion is the anchor;
    - a promoted challenger becomes the anchor if its entry says so: it was better than the champion and the anchor, or
      neither could score; see `champion.Verdict.is_anchor`. Better than the champion alone is not enough: the champion
      may already be worse than the anchor, and a loss could add up in such steps;
    - a person who approves a waiting challenger leaves that finding as it is; a person who promotes another version
      sets the anchor to it, as the gate's comparisons do not bind them;
    - a rollback brings back the anchor of the time when that version was promoted.

    Args:
        entries: The log, oldest first.
    """
    current, champion = None, None
    anchors: dict[str, str] = {}
    for entry in entries:
        if entry.champion is None or entry.champion == champion:
            continue
        champion = entry.champion
        if entry.action == "rollback":
            current = anchors.get(champion, champion)
        elif current is None or entry.is_anchor:
            current = champion
        anchors[champion] = current
    return current


def attempt_number(entries: Sequence[Promotion], challenger: str, test_days: tuple[date, date]) -> int:
    """Return which attempt on overlapping test rows a challenger is since the last promotion, from 1.

    What counts is a challenger on some test days that the gate compared by a test. The same challenger judged again on
    the same days is the same attempt; a rollback does not start anew.

    Args:
        entries: The log, oldest first.
        challenger: The version that is judged.
        test_days: The first and the last day of the rows that it is judged by.
    """
    last = max((it.number for it in entries if it.action == "promote"), default=0)
    first_day, last_day = test_days
    tried = dict.fromkeys(
        (it.challenger, it.test_days)
        for it in entries
        if it.number > last
        and it.attempt is not None
        and it.test_days is not None
        and it.test_days[0] <= last_day
        and first_day <= it.test_days[1]
    )
    return [*tried, (challenger, test_days)].index((challenger, test_days)) + 1


def refusals(entries: Sequence[Promotion], since: Promotion | None) -> int:
    """Return how many challengers the gate has rejected since an entry; a rollback counts as one too.

    A challenger counts once, however often it was judged: two flows at once must not double a cool-down.

    Args:
        entries: The log, oldest first.
        since: The entry by which the champion serves; None without a champion.
    """
    if since is None:
        return 0
    rejected = {it.challenger for it in entries if it.number > since.number and it.action == "refuse"}
    return len(rejected) + (since.action == "rollback")


def left(entries: Sequence[Promotion]) -> frozenset[str]:
    """Return the versions that have served and were rolled back from.

    Args:
        entries: The log, oldest first.
    """
    return frozenset(entry.champion for entry in entries if entry.champion) - frozenset(standing(entries))


def waiting(entries: Sequence[Promotion]) -> Promotion | None:
    """Return the entry by which a challenger waits for a person to let it in; None where nobody waits.

    A newer one that waits takes its place. Once somebody else serves nobody waits: the gate has compared with who
    served before.

    Args:
        entries: The log, oldest first.
    """
    waits, champion = None, None
    for entry in entries:
        if entry.action == "wait":
            waits = entry
        elif entry.champion != champion or (waits is not None and entry.challenger == waits.challenger):
            waits = None
        champion = entry.champion
    return waits


def cannot_answer(model: Model, *, task: Task, target: str, inputs: TableContract) -> tuple[str, ...]:
    """Return why a model cannot answer what is declared now, in sentences; none if it can.

    Args:
        model: The model that is to serve.
        task: As it is declared.
        target: As it is declared.
        inputs: The contract of all features as it is in force.
    """
    spec = model.spec
    asked = [("task", spec.task, task), ("target", spec.target, target)]
    against = [f"its {what} is {was}; the declaration asks for {now}." for what, was, now in asked if was != now]
    against += [change.sentence for change in input_changes(model, inputs) if not change.is_compatible]
    if model.contract is None:
        gone = [feature.name for feature in spec.features if feature.name not in inputs.names]
        against += [f"column '{name}' of table '{inputs.name}' is gone; the model reads it." for name in gone]
    return tuple(against)


def entry_of(
    entries: Sequence[Promotion],
    version: str,
    *,
    model: str,
    action: Literal["promote", "rollback"],
    why: str,
    by: str,
    at: datetime,
    entry_id: str,
) -> Promotion:
    """Return the next entry of a log: a person lets a version serve, whatever the gate said of it.

    Args:
        entries: The log that the person decided on, oldest first.
        version: Who serves from now on.
        model: Whose log it is.
        action: Whether it goes forward or back.
        why: The person's reason.
        by: The person.
        at: When, in UTC.
        entry_id: Tells this decision from an equal one.
    """
    judged = next((it for it in reversed(entries) if (it.challenger, it.decided_by) == (version, GATE)), None)
    waits = waiting(entries)
    approved = waits if waits is not None and waits.challenger == version else None
    return Promotion(
        number=len(entries) + 1,
        model=model,
        action=action,
        champion=version,
        challenger=version,
        reasons=(why, _said(judged)),
        is_anchor=action == "promote" and (approved is None or approved.is_anchor),
        cause=judged.cause if judged is not None and action == "promote" else None,
        evaluation_version=None if judged is None else judged.evaluation_version,
        decided_at=at,
        decided_by=by,
        id=entry_id,
    )


def _said(judged: Promotion | None) -> str:
    if judged is None:
        return "The gate has not judged it."
    verb = {"promote": "promoted", "refuse": "refused", "rollback": "rolled back to", "wait": "passed"}[judged.action]
    return f"The gate {verb} it in entry {judged.number}: {' '.join(judged.reasons)}"
