"""Watches the scored rows by the minute, and reports degenerate output when it begins, hourly, and when it is over.

Not here: what is degenerate (see `ml_assets.serving.degenerate`).
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, get_args

import numpy as np

from ml_assets.declaration.serving import AlarmLimits
from ml_assets.serving.degenerate import Degenerate, Observed, Share, UsualShares, is_alarming, shares
from ml_assets.serving.inputs import EncodedInputs
from ml_assets.serving.logs import LOGGER, log_event
from ml_assets.serving.served_model import Served, ServedModel

SECONDS: Final = 60.0
"""How long a window is, or longer until it has the declared number of rows."""
LONGEST: Final = 3600.0
"""A window that has too few rows after so many seconds is not judged."""
MOST_ROWS: Final = 20_000
"""Rows of a window that are counted: the first ones. More would cost memory and say nothing new."""
_TOGETHER: Final = 1_000
"""Rows that are counted in one step."""
_LOOK_SECONDS: Final = 1.0
_NAMED: Final = 20
"""Fields that an alert names."""


@dataclass(frozen=True)
class Alarm:
    """Degenerate output of a model in a window.

    Attributes:
        found: the alarming shares of one kind, the largest first.
        rows: how many rows the window has.
        since, until: when it began and ended.
    """

    served: ServedModel
    what: Degenerate
    found: tuple[Share, ...]
    rows: int
    since: datetime
    until: datetime


@dataclass
class _Window:
    """The rows of one version since a moment."""

    served: ServedModel
    began: float
    rows: int = 0
    default: int = 0
    scores: Counter[float] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)
    lost: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
    waiting: list[tuple[EncodedInputs, Served]] = field(default_factory=list)
    waiting_rows: int = 0

    def add(self, inputs: EncodedInputs, scores: Served) -> None:
        if self.rows + self.waiting_rows >= MOST_ROWS:
            return
        self.waiting.append((inputs, scores))
        self.waiting_rows += scores.rows
        if self.waiting_rows >= _TOGETHER:
            self.count()

    def count(self) -> None:
        """Count the rows that wait."""
        if not self.waiting:
            return
        is_lost = np.isnan(np.concatenate([inputs.matrix for inputs, _ in self.waiting]))
        lost = is_lost.sum(axis=0)
        self.lost = lost if self.lost is None else self.lost + lost
        self.default += int(is_lost.all(axis=1).sum())
        for inputs, scores in self.waiting:
            self.scores.update(scores.columns["score"])
            self.unseen.update(inputs.unseen)
        self.rows += self.waiting_rows
        self.waiting, self.waiting_rows = [], 0

    @property
    def observed(self) -> Observed:
        names = [its.name for its in self.served.inputs.fields]
        lost = [0] * len(names) if self.lost is None else self.lost.tolist()
        nulls = {name: count - self.unseen[name] for name, count in zip(names, lost, strict=True)}
        return Observed(self.rows, max(self.scores.values(), default=0), self.default, nulls, self.unseen)


@dataclass
class OutputWatch:
    """Counts scored rows, and judges them once a minute.

    Attributes:
        limits: by model, as declared; the usual ones for others.
        on_alarm: is called, by a thread, when an alarm begins, and in each further hour.
    """

    limits: Mapping[str, AlarmLimits] = field(default_factory=dict)
    on_alarm: Callable[[Alarm], None] = lambda _: None
    clock: Callable[[], float] = time.time
    judged: dict[str, tuple[int, tuple[Share, ...]]] = field(default_factory=dict)
    active: dict[tuple[str, Degenerate], str] = field(default_factory=dict)
    _windows: dict[str, _Window] = field(default_factory=dict)
    _usual: dict[str, tuple[str, UsualShares]] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def add(self, served: ServedModel, inputs: EncodedInputs, scores: Served) -> None:
        """Count scored rows, from any thread."""
        if not scores.rows:
            return
        with self._turn:
            window = self._windows.get(served.name)
            if window is None or window.served.version != served.version:
                window = self._windows[served.name] = _Window(served, self.clock())
            window.add(inputs, scores)

    async def run(self) -> None:
        """Judge windows until the task is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.to_thread(self.judge)

    def judge(self) -> None:
        """Judge the windows that are over. An alert that was not sent is tried again after the next one."""
        for window in self._over():
            try:
                self._judge(window)
            except Exception:  # noqa: BLE001 - channels of alerts raise errors of many libraries; the service goes on
                facts = {"model": window.served.name}
                LOGGER.exception("degenerate output was not judged, or its alert not sent", extra={"fields": facts})

    def _over(self) -> list[_Window]:
        now, found = self.clock(), []
        with self._turn:
            for name, window in [*self._windows.items()]:
                window.count()
                has_enough = window.rows >= self._limits(name).rows
                if now - window.began >= (SECONDS if has_enough else LONGEST):
                    del self._windows[name]
                    if has_enough:
                        found.append(window)
        return found

    def _limits(self, name: str) -> AlarmLimits:
        return self.limits.get(name) or AlarmLimits()

    def _judge(self, window: _Window) -> None:
        served, limits, observed = window.served, self._limits(window.served.name), window.observed
        found = tuple(shares(observed, self._usual_of(served)))
        self.judged[served.name] = (observed.rows, found)
        since, until = (datetime.fromtimestamp(at, UTC) for at in (window.began, self.clock()))
        for what in get_args(Degenerate):
            over = [it for it in found if it.what == what and is_alarming(it, limits, observed.rows)]
            if over:
                ordered = tuple(sorted(over, key=lambda it: it.usual - it.observed)[:_NAMED])
                self._begin(Alarm(served, what, ordered, observed.rows, since, until))
            elif self.active.pop((served.name, what), None) is not None:
                log_event("degenerate output is over", {"model": served.name, "kind": what})

    def _usual_of(self, served: ServedModel) -> UsualShares:
        version, usual = self._usual.get(served.name, ("", None))
        if usual is None or version != served.version:
            usual = UsualShares.of(served)
            self._usual[served.name] = (served.version, usual)
        return usual

    def _begin(self, alarm: Alarm) -> None:
        """Log and alert an alarm, if it is new or its alert is of an earlier hour."""
        key, hour = (alarm.served.name, alarm.what), hour_of(alarm)
        before = self.active.get(key)
        if before is None:
            worst = alarm.found[0]
            facts = {
                "model": alarm.served.name, "version": alarm.served.version, "kind": alarm.what, "rows": alarm.rows,
                "field": worst.field, "share": worst.observed, "usual": worst.usual,
            }  # fmt: skip
            log_event("degenerate output", facts, level=logging.ERROR)
        if before != hour:
            self.active[key] = ""
            self.on_alarm(alarm)
            self.active[key] = hour


def hour_of(alarm: Alarm) -> str:
    """Return the hour of an alarm, for which one alert is sent."""
    return alarm.until.strftime("%Y-%m-%dT%H")
