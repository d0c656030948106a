"""The outbox of alerts in the lake: pending alerts, and which channel received which, so that none is sent twice.

Not here: what causes an alert (see `ml_assets.automation.alerts`), and the channels' settings. Every pod shares the
outbox.

    alerts/open/<digest>.json              a pending alert; removed when every channel is done with it
    alerts/<day>/<digest>.json             the alert's record, created exclusively; lists the channels that got it
    alerts/<day>/<digest>/<channel>-01.json  one attempt at a channel: created exclusively before, updated after
    alerts/rate/<channel>/<hour>/01.json   counts one message of an hour, created exclusively
"""

import contextlib
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from pydantic import AwareDatetime, Field

from ml_assets.alerts.alert import Alert, Redactor
from ml_assets.alerts.channels import Channel, ChannelError, Message
from ml_assets.contracts.json_record import Record
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.objects import Objects
from ml_assets.lake.sealing import RESTORE, Sealed, seal, unseal

MOST_TRIES: Final = 24
"""With the waits below, a channel may be down for 19 hours before an alert is given up."""
LOST_AFTER: Final = timedelta(minutes=5)
"""An attempt without an outcome for this long has crashed. A channel takes seconds."""

_OPEN, _RATE = "open", "rate"
_MOST_BYTES: Final = 2**20
_MOST_TOGETHER: Final = 500
_MOST_OPEN: Final = 2000
_MOST_LETTERS: Final = 10_000
_SECONDS_A_CHANNEL: Final = 15.0
"""Dagster allows a sensor's tick 60 s in all. Alerts that a slow channel did not take are sent at the next tick."""
_NAMED_IN_DIGEST: Final = 12


class Taken(Record):
    """The record of an alert; finally with the outcome for each channel."""

    alert: Alert
    recorded_at: AwareDatetime
    channels: dict[str, Literal["sent", "abandoned"]] = Field(default={})


class Try(Record):
    """One attempt at a channel. It has no outcome while it lasts, or if its process crashed."""

    alert: str
    channel: str
    number: int
    attempted_at: AwareDatetime
    outcome: Literal["sent", "failed"] | None = None
    reason: str | None = None
    may_have_arrived: bool = False

    def is_over(self, now: datetime) -> bool:
        """Return whether no more attempts follow: it was sent, or this was the last attempt."""
        is_alive = self.outcome is None and now - self.attempted_at < LOST_AFTER
        return self.outcome == "sent" or (self.number >= MOST_TRIES and not is_alive)

    def is_due(self, now: datetime) -> bool:
        """Return whether the next attempt is due."""
        wait = LOST_AFTER if self.outcome is None else min(timedelta(seconds=30 * 2 ** (self.number - 1)), _LONGEST)
        return not self.is_over(now) and now - self.attempted_at >= wait


_LONGEST: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Delivery:
    """The outcome of one call of `send`.

    Attributes:
        new: alerts that had not been recorded before.
        sent: alerts that at least one channel received now.
        waiting: alerts that are pending for a channel, because of the hour's limit or a later attempt.
    """

    new: int = 0
    sent: int = 0
    waiting: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Waiting:
    """A pending alert, and the last attempt at each channel."""

    digest: str
    taken: Taken
    tries: dict[str, Try] = field(default_factory=dict)

    @property
    def alert(self) -> Alert:
        return self.taken.alert


@dataclass(frozen=True)
class Outbox:
    """Sends alerts, each once to each channel that receives its kind.

    If a process crashes between a channel's acceptance and the record of it, the message is sent again after five
    minutes, with the same id and a note that it may be a repeat.
    """

    lake: Objects
    channels: Sequence[Channel]
    redact: Redactor
    per_hour: int
    base_url: str
    log: logging.Logger
    clock: Callable[[], datetime]

    def send(self, alerts: Iterable[Alert]) -> Delivery:
        """Send new alerts, and those still pending.

        Raises:
            LakeError: the lake cannot be read or written.
        """
        new = self._record_new([alert.rewritten(self._clean) for alert in alerts])
        waiting, unread = self._open(new)
        sent: set[str] = set()
        failures: dict[str, str] = {}
        for channel in self.channels:
            wanted = [it for it in waiting if it.alert.kind in channel.kinds]
            sent |= self._deliver(channel, wanted, failures)
        left = self._close(waiting)
        return Delivery(len(new), len(sent), left + unread, failures)

    def _clean(self, text: str) -> str:
        return self.redact(text)[:_MOST_LETTERS]

    def _record_new(self, alerts: Sequence[Alert]) -> list[str]:
        """Record alerts as pending unless they are recorded already, and return their digests."""
        known = {day: set(self.lake.names(self._path(day))) for day in {_day(alert) for alert in alerts}}
        new = {
            digest: alert for alert in alerts if f"{(digest := alert_digest(alert.key))}.json" not in known[_day(alert)]
        }

        def record(digest: str) -> None:
            self._write(self._path(_OPEN, f"{digest}.json"), Taken(alert=new[digest], recorded_at=self.clock()))

        self.lake.map(record, new, writes=True)
        return [*new]

    def _open(self, new: Sequence[str]) -> tuple[list[_Waiting], int]:
        """Return the pending alerts to process, and how many more are pending.

        If no channel may send more in this hour, only new alerts are processed: thousands may be pending.
        """
        names = {name.removesuffix(".json") for name in self.lake.names(self._path(_OPEN)) if name.endswith(".json")}
        limited = [channel for channel in self.channels if channel.is_limited]
        is_full = bool(limited) and not any(self._free(channel) for channel in limited)
        chosen = sorted(names & set(new)) + ([] if is_full else sorted(names - set(new)))
        chosen = chosen[:_MOST_OPEN]
        found = [it for it in self.lake.map(self._waiting, chosen) if it is not None]
        return sorted(found, key=lambda it: (it.alert.occurred_at, it.digest)), len(names) - len(found)

    def _waiting(self, digest: str) -> _Waiting | None:
        """Return a pending alert with the last attempt at each channel.

        None if it was closed meanwhile, or cannot be read. A damaged alert is logged at each tick and does not block
        others.
        """
        try:
            path = self._path(_OPEN, f"{digest}.json")
            taken = self._read(path, Taken, "the record of an alert", lambda it: f"{alert_digest(it.alert.key)}.json")
            with contextlib.suppress(FileExistsError):
                self.lake.create(self._record(digest, taken), seal(taken))
            return _Waiting(digest, taken, self._tries(digest, taken))
        except MissingArtifactError:
            return None
        except CorruptArtifactError:
            self.log.exception("a pending alert cannot be sent")
            return None

    def _tries(self, digest: str, taken: Taken) -> dict[str, Try]:
        """Return the last attempt at each channel."""
        folder = self._path(_day(taken.alert), digest)
        last: dict[str, str] = {}
        for name in sorted(name for name in self.lake.names(folder) if name.endswith(".json")):
            last[name.rpartition("-")[0]] = name
        what = "the record of an attempt to send an alert"
        return {
            channel: self._read(f"{folder}/{name}", Try, what, lambda it: f"{it.alert}/{_name_of_try(it)}")
            for channel, name in last.items()
        }

    def _deliver(self, channel: Channel, wanted: Sequence[_Waiting], failures: dict[str, str]) -> set[str]:
        """Send a channel the alerts that are due, and return those it received."""
        now, got = self.clock(), set[str]()
        end = time.monotonic() + _SECONDS_A_CHANNEL
        due = [it for it in wanted if (last := it.tries.get(channel.name)) is None or last.is_due(now)]
        for group in self._groups(channel, due, now):
            if time.monotonic() > end or (slot := self._slot(channel)) is None:
                break
            mine = [it for it in group if self._claim(it, channel)]
            if not mine:
                self._release(slot)
                continue
            try:
                channel.send(self._message(mine, channel))
            except ChannelError as error:
                reason = failures[channel.name] = self.redact(str(error))
                self._record_outcome(mine, channel, "failed", reason, may_have_arrived=error.may_have_arrived)
                if not error.may_have_arrived:
                    self._release(slot)
                # Without a traceback, which would only show where in the library the error was raised.
                self.log.error(f"alert channel {_shown(channel)} failed: {reason}. It is retried later.")  # noqa: TRY400
                break  # the other alerts would fail the same way
            self._record_outcome(mine, channel, "sent")
            got |= {it.digest for it in mine}
        return got

    def _groups(self, channel: Channel, due: Sequence[_Waiting], now: datetime) -> list[list[_Waiting]]:
        """Return the alerts of each message: those pending since an earlier hour together, others one by one."""
        if not channel.is_limited:
            return [[it] for it in due]
        hour = now.replace(minute=0, second=0, microsecond=0)
        late = [it for it in due if it.taken.recorded_at < hour]
        together = [late[start : start + _MOST_TOGETHER] for start in range(0, len(late), _MOST_TOGETHER)]
        return [*together, *([it] for it in due if it.taken.recorded_at >= hour)]

    def _claim(self, waiting: _Waiting, channel: Channel) -> bool:
        """Create the next attempt at a channel. If two processes try at once, one of them gets it."""
        last = waiting.tries.get(channel.name)
        mine = Try(
            alert=waiting.digest, channel=channel.name, number=1 if last is None else last.number + 1,
            attempted_at=self.clock(),
            # An earlier attempt got no response, or has no outcome.
            may_have_arrived=last is not None and (last.may_have_arrived or last.outcome is None),
        )  # fmt: skip
        try:
            self.lake.create(self._try(waiting, mine), seal(mine))
        except FileExistsError:
            return False
        waiting.tries[channel.name] = mine
        return True

    def _record_outcome(
        self,
        claimed: Sequence[_Waiting],
        channel: Channel,
        outcome: Literal["sent", "failed"],
        reason: str | None = None,
        *,
        may_have_arrived: bool = False,
    ) -> None:
        """Record the outcome of an attempt. Only the process that claimed the attempt does so."""

        def record(waiting: _Waiting) -> None:
            mine = waiting.tries[channel.name]
            done = mine.model_copy(
                update={
                    "attempted_at": self.clock(), "outcome": outcome, "reason": reason,
                    "may_have_arrived": may_have_arrived or mine.may_have_arrived,
                }
            )  # fmt: skip
            self._write(self._try(waiting, done), done)
            waiting.tries[channel.name] = done

        self.lake.map(record, claimed, writes=True)

    def _close(self, waiting: Sequence[_Waiting]) -> int:
        """Close alerts that every channel is done with, and return how many are still pending."""
        now, left = self.clock(), 0
        for it in waiting:
            wanted = [channel for channel in self.channels if it.alert.kind in channel.kinds]
            if any((last := it.tries.get(channel.name)) is None or not last.is_over(now) for channel in wanted):
                left += 1
                continue
            ends: dict[str, Literal["sent", "abandoned"]] = {
                channel.name: "sent" if it.tries[channel.name].outcome == "sent" else "abandoned" for channel in wanted
            }
            for channel in wanted:
                if ends[channel.name] == "abandoned":
                    self.log.error(
                        f"alert channel {_shown(channel)} did not receive «{it.alert.title}» in {MOST_TRIES} attempts; "
                        "no more follow. Fix the channel. The alert is in the lake and in the log."
                    )
            self._write(self._record(it.digest, it.taken), it.taken.model_copy(update={"channels": ends}))
            with contextlib.suppress(MissingArtifactError):  # another tick closed it as well
                self.lake.remove(self._path(_OPEN, f"{it.digest}.json"))
        return left

    # ------------------------------------------------------------ the limit per hour

    def _hour(self, channel: Channel) -> str:
        return self._path(_RATE, channel.name, f"{self.clock():%Y-%m-%dT%H}")

    def _free(self, channel: Channel) -> bool:
        return sum(name.endswith(".json") for name in self.lake.names(self._hour(channel))) < self.per_hour

    def _slot(self, channel: Channel) -> str | None:
        """Count one message of the hour and return its file; '' if there is no limit, None if the limit is reached."""
        if not channel.is_limited:
            return ""
        folder = self._hour(channel)
        taken = set(self.lake.names(folder))
        for number in range(1, self.per_hour + 1):
            path = f"{folder}/{number:05d}.json"
            if path.rpartition("/")[2] in taken:
                continue
            with contextlib.suppress(FileExistsError):
                self.lake.create(path, b"{}")
                if not taken:
                    self._forget_hours(channel)
                return path
        return None

    def _forget_hours(self, channel: Channel) -> None:
        """Remove the counters of past hours."""
        past = f"{self.clock() - timedelta(hours=2):%Y-%m-%dT%H}"
        root = self._path(_RATE, channel.name)
        for name in (name for name in self.lake.tree(root) if name < past):
            with contextlib.suppress(MissingArtifactError):  # another tick does the same
                self.lake.remove(f"{root}/{name}")

    def _release(self, slot: str) -> None:
        if slot:
            self.lake.remove(slot)

    # ------------------------------------------------------------ what is sent

    def _message(self, claimed: Sequence[_Waiting], channel: Channel) -> Message:
        is_repeat = any(it.tries[channel.name].may_have_arrived for it in claimed)
        if len(claimed) == 1:
            alert = claimed[0].alert
            return Message(
                id=claimed[0].digest, kind=alert.kind, severity=alert.severity, subject=alert.subject,
                title=alert.title, body=alert.body, occurred_at=alert.occurred_at, facts=alert.facts,
                is_repeat=is_repeat,
                link=f"{self.base_url}{alert.link}" if self.base_url and alert.link else None,
            )  # fmt: skip
        alerts = [it.alert for it in claimed]
        counts = Counter[str](alert.kind for alert in alerts)
        worst = min((alert.severity for alert in alerts), key=("error", "warning", "info").index)
        titles = "\n".join(f"- {' '.join(alert.title.split())}" for alert in alerts[:_NAMED_IN_DIGEST])
        more = len(alerts) - _NAMED_IN_DIGEST
        rest = f"\n- and {more} more; all are in {self._path(_day(alerts[0]))} and later days." if more > 0 else ""
        return Message(
            id=alert_digest("\n".join(it.digest for it in claimed)), kind="digest", severity=worst,
            subject=f"{len({alert.subject for alert in alerts})} subjects",
            title=f"{len(alerts)} alerts that were delayed: {alerts[0].title}, and {len(alerts) - 1} more",
            body=f"{titles}{rest}", occurred_at=max(alert.occurred_at for alert in alerts), facts=dict(counts),
            is_repeat=is_repeat,
            link=f"{self.base_url}/runs" if self.base_url else None,
        )  # fmt: skip

    # ------------------------------------------------------------ paths and records

    def _path(self, *parts: str) -> str:
        return self.lake.path("alerts", *parts)

    def _record(self, digest: str, taken: Taken) -> str:
        return self._path(_day(taken.alert), f"{digest}.json")

    def _try(self, waiting: _Waiting, it: Try) -> str:
        return self._path(_day(waiting.alert), waiting.digest, _name_of_try(it))

    def _write(self, path: str, record: Record) -> None:
        self.lake.write(path, lambda file: file.write(seal(record)))

    def _read(self, path: str, kind: type[Sealed], what: str, place: Callable[[Sealed], str]) -> Sealed:
        """Return a record: `what` in words, at a path whose end is the `place` of the record.

        Raises:
            CorruptArtifactError: it is damaged, or belongs to another path.
        """
        found = unseal(self.lake.read(path, limit=_MOST_BYTES), kind, where=path, what=what, fix=_FIX)
        if not path.endswith(f"/{place(found)}"):
            raise CorruptArtifactError(f"{path} is {what}, but its path names another one. {_FIX}")
        return found


_FIX: Final = RESTORE.replace("object.", "object, or remove it.")


def _name_of_try(it: Try) -> str:
    return f"{it.channel}-{it.number:02d}.json"


def alert_digest(key: str) -> str:
    """Return the digest of an alert's key, for use in paths."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _day(alert: Alert) -> str:
    return f"{alert.occurred_at.astimezone(UTC):%Y-%m-%d}"


def _shown(channel: Channel) -> str:
    return f"{channel.name} ({channel.service})" if channel.service else channel.name
