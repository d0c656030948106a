"""What stands in the lake of alerts: which are to be sent and which channel got them, so that none goes out twice.

Every pod sees it. What is worth an alert stays out (see `ml_assets.automation.alerts`), and so do the channels'
settings.

    alerts/open/<digest>.json              to be sent: the alert; removed when every channel is through with it
    alerts/<day>/<digest>.json             taken up: an exclusive create; in the end it says which channels got it
    alerts/<day>/<digest>/<channel>-01.json  one try at a channel: an exclusive create before, its outcome after
    alerts/rate/<channel>/<hour>/01.json   one of the messages of an hour: an exclusive create
"""

import contextlib
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from ml_assets.alerts.channels import Channel, ChannelError, Message
from ml_assets.alerts.resource import Alert, Redactor
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.objects import Objects
from ml_assets.lake.sealing import RESTORE, seal, unseal

MOST_TRIES: Final = 24
"""With the waits below a channel may be down for 19 hours before an alert is given up."""
LOST_AFTER: Final = timedelta(minutes=5)
"""A try that nobody has heard of for so long died; a channel takes seconds."""

_OPEN, _RATE = "open", "rate"
_MOST_BYTES: Final = 2**20
_MOST_TOGETHER: Final = 500
_MOST_OPEN: Final = 2000
_MOST_LETTERS: Final = 10_000
_SECONDS_A_CHANNEL: Final = 15.0
"""Dagster gives a sensor's tick a minute for everything; what a slow channel does not take now it gets at the next."""
_NAMED_IN_DIGEST: Final = 12


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Taken(_Kept):
    """An alert that somebody took up; at the end, what became of it by channel."""

    alert: Alert
    taken_at: AwareDatetime
    channels: dict[str, Literal["sent", "given up"]] = {}


class Try(_Kept):
    """One try at a channel; without an outcome while it lasts, or if the process died over it.

    Attributes:
        alert: the alert's digest.
    """

    alert: str
    channel: str
    number: int
    at: AwareDatetime
    outcome: Literal["sent", "failed"] | None = None
    reason: str | None = None
    may_have_arrived: bool = False

    def is_over(self, now: datetime) -> bool:
        """Tell whether nothing more is to be done: it was sent, or was the last."""
        is_alive = self.outcome is None and now - self.at < LOST_AFTER
        return self.outcome == "sent" or (self.number >= MOST_TRIES and not is_alive)

    def is_due(self, now: datetime) -> bool:
        """Tell whether the next try is due."""
        wait = LOST_AFTER if self.outcome is None else min(timedelta(seconds=30 * 2 ** (self.number - 1)), _LONGEST)
        return not self.is_over(now) and now - self.at >= wait


_LONGEST: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Delivery:
    """What came of one sending.

    Attributes:
        new: alerts that nobody had taken up before.
        sent: alerts that some channel got now.
        waiting: alerts that a channel still waits for: held by the hour's limit, or to be tried again.
        failures: by channel, why it did not take what it was given.
    """

    new: int = 0
    sent: int = 0
    waiting: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Waiting:
    """An open alert, and the last try at each channel."""

    digest: str
    taken: Taken
    tries: dict[str, Try] = field(default_factory=dict)

    @property
    def alert(self) -> Alert:
        return self.taken.alert


@dataclass(frozen=True)
class Outbox:
    """Sends alerts, each once to each channel that wants it.

    Who dies between a channel's taking a message and its note of that cannot be told from who dies before: after five
    minutes the message goes out again, with the same id, and says that it may be a repeat.
    """

    lake: Objects
    channels: Sequence[Channel]
    redact: Redactor
    per_hour: int
    base_url: str
    log: logging.Logger
    clock: Callable[[], datetime]

    def send(self, alerts: Iterable[Alert]) -> Delivery:
        """Send what is new, and what still waits.

        Raises:
            LakeError: the lake cannot be read or written.
        """
        new = self._take_up([alert.rewritten(self._clean) for alert in alerts])
        waiting, unread = self._open(new)
        sent: set[str] = set()
        failures: dict[str, str] = {}
        for channel in self.channels:
            wanted = [it for it in waiting if it.alert.kind in channel.kinds]
            sent |= self._bring(channel, wanted, failures)
        left = self._close(waiting)
        return Delivery(len(new), len(sent), left + unread, failures)

    def _clean(self, text: str) -> str:
        return self.redact(text)[:_MOST_LETTERS]

    def _take_up(self, alerts: Sequence[Alert]) -> list[str]:
        """Note that alerts are to be sent, unless somebody has, and return their digests."""
        known = {day: set(self.lake.names(self._path(day))) for day in {_day(alert) for alert in alerts}}
        new = {
            digest: alert for alert in alerts if f"{(digest := digest_of(alert.key))}.json" not in known[_day(alert)]
        }
        with self.lake.pool(len(new), writes=True) as each:
            each(lambda item: self._write(self._path(_OPEN, f"{item[0]}.json"), self._taken(item[1])), new.items())
        return [*new]

    def _taken(self, alert: Alert) -> Taken:
        return Taken(alert=alert, taken_at=self.clock())

    def _open(self, new: Sequence[str]) -> tuple[list[_Waiting], int]:
        """Return the alerts to be looked at, and how many more are open.

        Where no channel may get more in this hour, only the new ones are looked at: thousands may be held.
        """
        names = {name.removesuffix(".json") for name in self.lake.names(self._path(_OPEN)) if name.endswith(".json")}
        limited = [channel for channel in self.channels if channel.is_limited]
        is_full = bool(limited) and not any(self._free(channel) for channel in limited)
        chosen = sorted(names & set(new)) + ([] if is_full else sorted(names - set(new)))
        chosen = chosen[:_MOST_OPEN]
        with self.lake.pool(len(chosen)) as each:
            found = [it for it in each(self._waiting, chosen) if it is not None]
        return sorted(found, key=lambda it: (it.alert.at, it.digest)), len(names) - len(found)

    def _waiting(self, digest: str) -> _Waiting | None:
        """Take up an open alert, and return it with the last try at each channel.

        None if it was closed meanwhile, or cannot be read: that one is told of at each tick and stops no other.
        """
        try:
            taken = read_taken(self.lake, self._path(_OPEN, f"{digest}.json"))
            with contextlib.suppress(FileExistsError):
                self.lake.create(self._record(digest, taken), seal(taken))
            return _Waiting(digest, taken, self._tries(digest, taken))
        except MissingArtifactError:
            return None
        except CorruptArtifactError:
            self.log.exception("an alert that waits cannot be sent")
            return None

    def _tries(self, digest: str, taken: Taken) -> dict[str, Try]:
        """Return the last try at each channel."""
        folder = self._path(_day(taken.alert), digest)
        last: dict[str, str] = {}
        for name in sorted(name for name in self.lake.names(folder) if name.endswith(".json")):
            last[name.rpartition("-")[0]] = name
        return {channel: self._read_try(digest, f"{folder}/{name}") for channel, name in last.items()}

    def _bring(self, channel: Channel, wanted: Sequence[_Waiting], failures: dict[str, str]) -> set[str]:
        """Send a channel what is due, and return what it got."""
        now, got = self.clock(), set[str]()
        end = time.monotonic() + _SECONDS_A_CHANNEL
        due = [it for it in wanted if (last := it.tries.get(channel.name)) is None or last.is_due(now)]
        for group in self._groups(channel, due, now):
            if time.monotonic() > end or (slot := self._slot(channel)) is None:
                break
            mine = [it for it in group if self._claim(it, channel)]
            if not mine:
                self._give_back(slot)
                continue
            try:
                complaint = channel.send(self._message(mine, channel))
            except ChannelError as error:
                reason = failures[channel.name] = self.redact(str(error))
                self._note(mine, channel, "failed", reason, may_have_arrived=error.may_have_arrived)
                if not error.may_have_arrived:
                    self._give_back(slot)
                # A traceback would add only where in the library it was noticed.
                self.log.error(f"alert channel {_shown(channel)} failed: {reason}. It is tried again later.")  # noqa: TRY400
                break  # what else waits need not wait for the same failure
            self._note(mine, channel, "sent")
            got |= {it.digest for it in mine}
            if complaint is not None:
                self.log.error(f"alert channel {_shown(channel)}: {self.redact(complaint)}.")
        return got

    def _groups(self, channel: Channel, due: Sequence[_Waiting], now: datetime) -> list[list[_Waiting]]:
        """Return what goes out together: what waits since an earlier hour in one message, all else by itself."""
        if not channel.is_limited:
            return [[it] for it in due]
        hour = now.replace(minute=0, second=0, microsecond=0)
        late = [it for it in due if it.taken.taken_at < hour]
        together = [late[start : start + _MOST_TOGETHER] for start in range(0, len(late), _MOST_TOGETHER)]
        return [*together, *([it] for it in due if it.taken.taken_at >= hour)]

    def _claim(self, waiting: _Waiting, channel: Channel) -> bool:
        """Take the next try at a channel; of two at once one gets it."""
        last = waiting.tries.get(channel.name)
        mine = Try(
            alert=waiting.digest, channel=channel.name, number=1 if last is None else last.number + 1, at=self.clock(),
            may_have_arrived=_is_repeat(last),
        )  # fmt: skip
        try:
            self.lake.create(self._try(waiting, mine), seal(mine))
        except FileExistsError:
            return False
        waiting.tries[channel.name] = mine
        return True

    def _note(
        self,
        claimed: Sequence[_Waiting],
        channel: Channel,
        outcome: Literal["sent", "failed"],
        reason: str | None = None,
        *,
        may_have_arrived: bool = False,
    ) -> None:
        """Note what came of a try; nobody but who claimed it does."""

        def note(waiting: _Waiting) -> None:
            mine = waiting.tries[channel.name]
            done = mine.model_copy(
                update={
                    "at": self.clock(), "outcome": outcome, "reason": reason,
                    "may_have_arrived": may_have_arrived or mine.may_have_arrived,
                }
            )  # fmt: skip
            self._write(self._try(waiting, done), done)
            waiting.tries[channel.name] = done

        with self.lake.pool(len(claimed), writes=True) as each:
            each(note, claimed)

    def _close(self, waiting: Sequence[_Waiting]) -> int:
        """Close what every channel is through with, and return how many are still open."""
        now, left = self.clock(), 0
        for it in waiting:
            wanted = [channel for channel in self.channels if it.alert.kind in channel.kinds]
            if any((last := it.tries.get(channel.name)) is None or not last.is_over(now) for channel in wanted):
                left += 1
                continue
            ends: dict[str, Literal["sent", "given up"]] = {
                channel.name: "sent" if it.tries[channel.name].outcome == "sent" else "given up" for channel in wanted
            }
            for channel in wanted:
                if ends[channel.name] == "given up":
                    self.log.error(
                        f"alert channel {_shown(channel)} did not get «{it.alert.title}» in {MOST_TRIES} tries; it is "
                        "given up there. Mend the channel; the alert stands in the lake and in the log."
                    )
            self._write(self._record(it.digest, it.taken), it.taken.model_copy(update={"channels": ends}))
            with contextlib.suppress(MissingArtifactError):  # another tick closed it too
                self.lake.remove(self._path(_OPEN, f"{it.digest}.json"))
        return left

    # ------------------------------------------------------------ the hour's limit

    def _hour(self, channel: Channel) -> str:
        return self._path(_RATE, channel.name, f"{self.clock():%Y-%m-%dT%H}")

    def _free(self, channel: Channel) -> bool:
        return sum(name.endswith(".json") for name in self.lake.names(self._hour(channel))) < self.per_hour

    def _slot(self, channel: Channel) -> str | None:
        """Take one of the hour's messages; '' where there is no limit, None where none is left."""
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
        """Remove what counted the messages of hours that are over."""
        past = f"{self.clock() - timedelta(hours=2):%Y-%m-%dT%H}"
        root = self._path(_RATE, channel.name)
        for name in (name for name in self.lake.tree(root) if name < past):
            with contextlib.suppress(MissingArtifactError):  # another tick does the same
                self.lake.remove(f"{root}/{name}")

    def _give_back(self, slot: str) -> None:
        if slot:
            self.lake.remove(slot)

    # ------------------------------------------------------------ what is sent

    def _message(self, claimed: Sequence[_Waiting], channel: Channel) -> Message:
        is_repeat = any(it.tries[channel.name].may_have_arrived for it in claimed)
        if len(claimed) == 1:
            alert = claimed[0].alert
            return Message(
                id=claimed[0].digest, kind=alert.kind, severity=alert.severity, subject=alert.subject,
                title=alert.title, body=alert.body, at=alert.at, facts=alert.facts, is_repeat=is_repeat,
                link=f"{self.base_url}{alert.link}" if self.base_url and alert.link else None,
            )  # fmt: skip
        alerts = [it.alert for it in claimed]
        counts = Counter[str](alert.kind for alert in alerts)
        worst = min((alert.severity for alert in alerts), key=("error", "warning", "info").index)
        told = "\n".join(f"- {' '.join(alert.title.split())}" for alert in alerts[:_NAMED_IN_DIGEST])
        more = len(alerts) - _NAMED_IN_DIGEST
        rest = f"\n- and {more} more; all stand in {self._path(_day(alerts[0]))} and later days." if more > 0 else ""
        return Message(
            id=digest_of("\n".join(it.digest for it in claimed)), kind="digest", severity=worst,
            subject=f"{len({alert.subject for alert in alerts})} subjects",
            title=f"{len(alerts)} alerts that had to wait: {alerts[0].title}, and {len(alerts) - 1} more",
            body=f"{told}{rest}", at=max(alert.at for alert in alerts), facts=dict(counts), is_repeat=is_repeat,
            link=f"{self.base_url}/runs" if self.base_url else None,
        )  # fmt: skip

    # ------------------------------------------------------------ where it stands

    def _path(self, *parts: str) -> str:
        return self.lake.path("alerts", *parts)

    def _record(self, digest: str, taken: Taken) -> str:
        return self._path(_day(taken.alert), f"{digest}.json")

    def _try(self, waiting: _Waiting, it: Try) -> str:
        return self._path(_day(waiting.alert), waiting.digest, _name_of_try(it))

    def _write(self, path: str, record: _Kept) -> None:
        self.lake.put_object(path, lambda file: _fill(file, seal(record)))

    def _read_try(self, digest: str, path: str) -> Try:
        what = "the record of a try to send an alert"
        found = unseal(self.lake.read(path, limit=_MOST_BYTES), Try, where=path, what=what, fix=_FIX)
        if (found.alert, _name_of_try(found)) != (digest, path.rpartition("/")[2]):
            raise CorruptArtifactError(f"{path} is {what}, but of another one than its name says. {_FIX}")
        return found


_FIX: Final = RESTORE.replace("object.", "object, or remove it.")


def _name_of_try(it: Try) -> str:
    return f"{it.channel}-{it.number:02d}.json"


def read_taken(lake: Objects, path: str) -> Taken:
    """Return an alert that was taken up.

    Raises:
        CorruptArtifactError: it is damaged, or another one than its name says.
    """
    what = "the record of an alert"
    taken = unseal(lake.read(path, limit=_MOST_BYTES), Taken, where=path, what=what, fix=_FIX)
    if f"{digest_of(taken.alert.key)}.json" != path.rpartition("/")[2]:
        raise CorruptArtifactError(f"{path} is {what}, but of another one than its name says. {_FIX}")
    return taken


def digest_of(key: str) -> str:
    """Return what stands for a key in paths."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _day(alert: Alert) -> str:
    return f"{alert.at.astimezone(UTC):%Y-%m-%d}"


def _fill(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _is_repeat(last: Try | None) -> bool:
    """Tell whether a try before may have arrived: its answer was lost, or it was never noted."""
    return last is not None and (last.may_have_arrived or last.outcome is None)


def _shown(channel: Channel) -> str:
    return f"{channel.name} at {channel.host}" if channel.host else channel.name
