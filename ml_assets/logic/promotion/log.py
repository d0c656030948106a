"""Read the promotion log, oldest entry first: the champion, the anchor, attempts, rollbacks, and a person's next entry.

Not here: the gate (see `ml_assets.logic.promotion.gate`), and writing the log (see `ml_assets.lake.promotion_log`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal

from ml_assets.contracts.artifacts.training import Model, Task
from ml_assets.contracts.changes import input_changes
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.table import TableContract

GATE: Final = "gate"
_JUDGED: Final = {
    "promote": "promoted",
    "reject": "rejected",
    "rollback": "rolled back to",
    "request_approval": "passed",
}
_NEVER_IN_SHADOW: Final = frozenset({"leaks", "contract"})
"""Rules of the gate. The scores of a challenger that breaks one of them mean nothing."""


def serving_since(entries: Sequence[Promotion]) -> Promotion | None:
    """Return the entry that made the current champion champion; None if there is no champion."""
    since = None
    for entry in entries:
        if since is None or entry.champion != since.champion:
            since = None if entry.champion is None else entry
    return since


def standing(entries: Sequence[Promotion]) -> tuple[str, ...]:
    """Return the versions that a rollback can return to, oldest first. The last is the current champion.

    The versions form a stack. A promotion pushes a version. A rollback removes all versions above its target, so the
    next rollback goes further back. A version that returns, by a promotion or by a rollback to a removed version, is
    pushed again.
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


def former_version(entries: Sequence[Promotion]) -> str | None:
    """Return the version of the champion's predecessor, which the watch compares with.

    None if there is none, and after a rollback. Also None if the champion was champion before: a person promoted it
    again although its figures were known, so the same figures do not roll it back once more.
    """
    since, stack = serving_since(entries), standing(entries)
    if since is None or since.action != "promote" or len(stack) < 2:
        return None
    earlier = {it.champion for it in entries if it.number < since.number}
    return None if since.champion in earlier else stack[-2]


def anchor(entries: Sequence[Promotion]) -> str | None:
    """Return the anchor: no later champion may be worse than it by more than the margin. None without a champion.

    Each champion may be slightly worse than the one before. A series of such steps would drift downward (bio-creep;
    D'Agostino, Massaro and Sullivan 2003, Statistics in Medicine 22:169-186). Challengers are therefore also compared
    with the anchor:

    - The first champion is the anchor.
    - A promoted challenger becomes the anchor if its entry states so: it was better than champion and anchor, or
    neither
      could score (see `Verdict.is_anchor` in `ml_assets.logic.promotion.gate`). To be better than the champion alone is
      not enough, because the champion may already be worse than the anchor.
    - If a person approves a waiting challenger, the gate's finding applies. If a person promotes another version, that
      version becomes the anchor.
    - A rollback restores the anchor from the time when its target was promoted.
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
    """Return the number of a challenger's attempt on overlapping test rows since the last promotion, from 1.

    An attempt is a challenger on some test days that the gate compared by a test. The same challenger on the same days
    is the same attempt. A rollback does not restart the count.
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


def shadow_attempt(entries: Sequence[Promotion], challenger: str, test_days: tuple[date, date], *, length: int) -> int:
    """Return the number of a challenger's attempt in shadow: 1 more than the earlier tests on overlapping days.

    These are tests since the last promotion: those of the gate that end no later, and the comparisons in shadow of
    challengers that were judged before, each of `length` days after the challenger's own test days. The number follows
    from what the log had before the challenger was compared, so looking at a comparison again spends nothing.
    """
    first_day, last_day = test_days
    decided = max((it.number for it in entries if it.action == "promote"), default=0)
    since = [it for it in entries if it.number > decided and it.action in ("reject", "request_approval")]
    own = min((it.number for it in since if it.challenger == challenger), default=len(entries) + 1)
    tests = {
        (it.challenger, it.test_days)
        for it in since
        if it.attempt is not None
        and it.test_days is not None
        and first_day <= it.test_days[1] <= last_day
        and not it.was_in_shadow  # counted below, by the challenger's earlier entry
    }
    earlier = {
        it.challenger
        for it in since
        if it.number < own and (it.test_days is None or it.test_days[1] + timedelta(days=length) >= first_day)
    }
    return 1 + len(tests - {(challenger, test_days)}) + len(earlier)


def rejections(entries: Sequence[Promotion], since: Promotion | None) -> int:
    """Return how many challengers the gate has rejected since an entry. A rollback also counts as one.

    A challenger counts once, however often it was judged: two runs at the same time must not double a cool-down.
    """
    if since is None:
        return 0
    rejected = {it.challenger for it in entries if it.number > since.number and it.action == "reject"}
    return len(rejected) + (since.action == "rollback")


def left(entries: Sequence[Promotion]) -> frozenset[str]:
    """Return the versions that were champion and were rolled back from."""
    return frozenset(entry.champion for entry in entries if entry.champion) - frozenset(standing(entries))


def shadowed(entries: Sequence[Promotion], *, most: int) -> tuple[str, ...]:
    """Return the challengers that are scored in shadow, at most some; first the one whose first verdict is the latest.

    They are those that the gate has rejected, or that wait for a person, since the last promotion or rollback; also the
    one that is online, if it is not among the newest. Challengers that were champion before, were withdrawn, have a
    proven leak, or do not match the declaration are left out.
    """
    decided = max((it.number for it in entries if it.action in ("promote", "rollback")), default=0)
    judged = {it.challenger: it for it in entries if it.number > decided and it.decided_by == GATE}
    former = {it.champion for it in entries} | {it.challenger for it in entries if it.action == "withdraw"}
    found = [
        version
        for version, entry in judged.items()
        if version not in former and not any(it.name in _NEVER_IN_SHADOW and not it.holds for it in entry.rules)
    ]
    newest, now = tuple(reversed(found)), online(entries)
    return newest[:most] + tuple(it for it in newest[most:] if now is not None and it == now.challenger)


def online(entries: Sequence[Promotion]) -> Promotion | None:
    """Return the entry by which the service scores a challenger beside the champion; None if it scores none.

    A withdrawal and any change of the champion end it.
    """
    found = None
    for entry in entries:
        if entry.action == "online":
            found = entry
        elif found is not None and (entry.action == "withdraw" or entry.champion != found.champion):
            found = None
    return found


def waiting(entries: Sequence[Promotion]) -> Promotion | None:
    """Return the entry of the challenger that waits for a person's approval; None if there is none.

    A newer waiting challenger replaces an older one. Nothing waits once the champion has changed, because the gate
    compared with the champion before.
    """
    waits, champion = None, None
    for entry in entries:
        if entry.action == "online":
            continue
        if entry.action == "request_approval":
            waits = entry
        elif entry.champion != champion or (waits is not None and entry.challenger == waits.challenger):
            waits = None
        champion = entry.champion
    return waits


def cannot_answer(
    model: Model, *, task: Task, target: str, inputs: TableContract, positive: bool | int | str | None = None
) -> tuple[str, ...]:
    """Return why a model does not match the current declaration, in sentences; empty if it does."""
    spec = model.spec
    differences = [("task", spec.task, task), ("target", spec.target, target)]
    differences += [("positive class", str(spec.positive), str(positive))]
    against = [f"its {what} is {was}; the declaration has {now}." for what, was, now in differences if was != now]
    against += [change.sentence for change in input_changes(model, inputs) if not change.is_compatible]
    return tuple(against)


@dataclass(frozen=True)
class Decision:
    """A decision to promote or to roll back to a version, whatever the gate decided.

    Attributes:
        entry_id: distinguishes this decision from an equal one.
    """

    action: Literal["promote", "rollback"]
    version: str
    why: str
    by: str
    at: datetime
    entry_id: str


def entry_of(entries: Sequence[Promotion], decision: Decision, *, model: str) -> Promotion:
    """Return the next entry of a model's log, which records a decision."""
    version, action = decision.version, decision.action
    judged = next((it for it in reversed(entries) if (it.challenger, it.decided_by) == (version, GATE)), None)
    waits = waiting(entries)
    approved = waits if waits is not None and waits.challenger == version else None
    return Promotion(
        number=len(entries) + 1,
        model=model,
        action=action,
        champion=version,
        challenger=version,
        reasons=(decision.why, _verdict_sentence(judged)),
        is_anchor=action == "promote" and (approved is None or approved.is_anchor),
        cause=judged.cause if judged is not None and action == "promote" else None,
        evaluation_version=None if judged is None else judged.evaluation_version,
        decided_at=decision.at,
        decided_by=decision.by,
        id=decision.entry_id,
    )


def _verdict_sentence(judged: Promotion | None) -> str:
    if judged is None:
        return "The gate has not judged it."
    return f"The gate {_JUDGED[judged.action]} it in entry {judged.number}: {' '.join(judged.reasons)}"
