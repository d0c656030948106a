"""The request log: the rows that the service has scored, as Parquet by day in the lake.

One thread writes what the requests of the last seconds have left, as one new file for each model, version and quarter
of an hour. A file is complete or not there, so a process that is killed loses the rows of its last seconds, and no
file.
"""

import logging
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import BinaryIO, Final

import polars as pl

from ml_assets.lake.errors import LakeError
from ml_assets.lake.objects import Objects
from ml_assets.lake.request_files import FACTS, REQUESTS, LogFacts, file_name
from ml_assets.serving.challenger import scored_beside
from ml_assets.serving.log_policy import LogPolicy
from ml_assets.serving.logged_rows import LoggedRequest, hashed_names, logged_rows
from ml_assets.serving.logs import LOGGER, log_event
from ml_assets.serving.metrics import Metrics

SECONDS: Final = 5.0
"""Rows are written at the latest after so many seconds."""
ROWS: Final = 50_000
"""Rows are written as soon as there are so many."""
MOST_ROWS: Final = 100_000
"""Rows in memory. Further ones are dropped and counted; no answer waits."""
MOST_BYTES: Final = 2**28
"""Memory of the rows that wait to be written, likewise."""
LAST_SECONDS: Final = 8.0
"""How long the service waits for the last rows to be written at its end."""
_PAUSE: Final = 0.2
"""Seconds after which requests become frames, which take less memory. Waking the thread for each would take longer."""
_Part = tuple[str, str, datetime]


@dataclass
class RequestLog:
    """The request log of one process.

    Attributes:
        policies: by model; the requests of other models are not stored.
    """

    lake: Objects
    policies: Mapping[str, LogPolicy]
    metrics: Metrics
    seconds: float = SECONDS
    most_rows: int = MOST_ROWS

    def __post_init__(self) -> None:
        self._process = secrets.token_hex(4)
        self._files = self._requests = 0
        self._bytes: float = 0
        self._rows: Counter[str] = Counter()
        self._turn = threading.Lock()
        self._is_closing = threading.Event()
        self._waiting: list[LoggedRequest] = []
        self._frames: dict[_Part, list[pl.DataFrame]] = {}
        self._facts: dict[tuple[str, str], LogFacts] = {}
        self._failing: set[str] = set()
        self._dropping: set[str] = set()
        self._broken: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="request log", daemon=True)

    def start(self) -> None:
        """Start to write."""
        self._thread.start()

    def request_id(self) -> str:
        """Return a new id for a request that has none."""
        self._requests += 1
        return f"{self._process}-{self._requests}"

    def add(self, request: LoggedRequest) -> None:
        """Store an answered request soon, from any thread. It takes microseconds."""
        name, rows = request.served.name, request.scores.rows
        policy = self.policies.get(name)
        if policy is None or not rows or (policy.sample < 1 and random.random() >= policy.sample):  # noqa: S311 - a sample
            return
        with self._turn:
            before = self._rows.total()
            is_full = before > 0 and (before + rows > self.most_rows or self._bytes > MOST_BYTES)
            if not is_full:
                self._rows[name] += rows
                self._waiting.append(request)
        if is_full:
            self._drop(name, rows, f"{before:,} rows wait to be written")
            return
        self.metrics.count_logged(name, "accepted", rows)

    def close(self) -> None:
        """Write all that was added, and end. Rows that are not written in time are counted."""
        self._is_closing.set()
        self._thread.join(LAST_SECONDS)
        with self._turn:
            left, self._rows = +self._rows, Counter()
        self._dropping.clear()
        for name, rows in left.items():
            self._drop(name, rows, f"they could not be written within {LAST_SECONDS:g} seconds at the end")

    def _drop(self, name: str, rows: int, why: str) -> None:
        """Count rows that are not stored, and log the first of a series."""
        self.metrics.count_logged(name, "dropped", rows)
        if name not in self._dropping:
            self._dropping.add(name)
            facts = {"model": name, "rows": rows, "reason": why, "metric": "ml_assets_logged_rows_total"}
            log_event("rows are missing from the request log", facts, level=logging.ERROR)

    def _run(self) -> None:
        due = time.monotonic() + self.seconds
        while not self._is_closing.wait(_PAUSE):
            self._convert()
            has_many = not self._failing and self._rows.total() >= ROWS
            if has_many or time.monotonic() >= due:
                self._write()
                due = time.monotonic() + self.seconds
        self._convert()
        end = time.monotonic() + LAST_SECONDS
        self._write()
        while self._frames and time.monotonic() < end:
            time.sleep(0.5)
            self._write()

    def _convert(self) -> None:
        """Turn the waiting requests into frames."""
        with self._turn:
            waiting, self._waiting = self._waiting, []
        waiting += self._beside(waiting)
        groups: dict[_Part, list[LoggedRequest]] = {}
        for it in waiting:
            groups.setdefault((it.served.name, it.served.version, it.quarter), []).append(it)
        for part, requests in groups.items():
            policy = self.policies[part[0]]
            try:
                found = logged_rows(requests, policy.hashing)
                hashed = hashed_names(requests[0].served, policy.hashing)
            except Exception:  # noqa: BLE001 - whatever it is, it is logged and counted, and the next rows are stored
                LOGGER.exception("rows could not be prepared for the request log", extra={"fields": {"model": part[0]}})
                self._forget(part[0], sum(it.scores.rows for it in requests), "they could not be prepared")
                continue
            self._facts[part[:2]] = LogFacts(sample=policy.sample, hashed=hashed)
            self._frames.setdefault(part, []).append(found)
        self._bytes = sum(it.estimated_size() for frames in self._frames.values() for it in frames)

    def _beside(self, answered: Sequence[LoggedRequest]) -> list[LoggedRequest]:
        """Return the rows of requests with the scores of the versions that have not answered them.

        They are scored here, so that no answer waits for them. Rows that such a version cannot score are counted.
        """
        found = []
        for it in answered:
            if it.beside is None:
                continue
            try:
                scores = scored_beside(it.beside, it.inputs)
            except Exception:  # noqa: BLE001 - as in `_convert`: the answered rows are stored in any case
                if it.beside.version not in self._broken:
                    facts = {"model": it.served.name, "version": it.beside.version}
                    LOGGER.exception("a version that does not answer cannot score", extra={"fields": facts})
                self._broken.add(it.beside.version)
                scores = None
            self.metrics.count_beside(it.served.name, "failed" if scores is None else "scored", it.scores.rows)
            if scores is not None:
                champion = "" if it.champion else it.served.version
                found.append(
                    replace(it, served=it.beside, scores=scores, champion=champion, is_answer=False, beside=None)
                )
        with self._turn:
            for it in found:
                self._rows[it.served.name] += it.scores.rows
        return found

    def _forget(self, name: str, rows: int, why: str) -> None:
        with self._turn:
            self._rows[name] -= rows
        self._drop(name, rows, why)

    def _write(self) -> None:
        """Write one file for each part; what cannot be written is tried again later."""
        for part, frames in [*self._frames.items()]:
            name, rows = part[0], sum(it.height for it in frames)
            try:
                self._write_file(part, pl.concat(frames, rechunk=False))
            except LakeError as error:
                if name not in self._failing:
                    facts = {"model": name, "reason": str(error), "rows": rows}
                    log_event("the request log cannot be written; it is tried again", facts, level=logging.ERROR)
                self._failing.add(name)
                continue
            except Exception:  # noqa: BLE001 - as in `_convert`
                LOGGER.exception("a file of the request log failed", extra={"fields": {"model": name}})
                del self._frames[part]
                self._forget(name, rows, "they could not be written")
                continue
            del self._frames[part]
            with self._turn:
                self._rows[name] -= rows
            self.metrics.count_logged(name, "written", rows)
            if name in self._failing:
                log_event("the request log is written again", {"model": name})
            self._failing.discard(name)
            self._dropping.discard(name)

    def _write_file(self, part: _Part, rows: pl.DataFrame) -> None:
        """Write a new file.

        Raises:
            LakeError: the lake cannot be written.
        """
        name, version, quarter = part
        self._files += 1
        first: int = rows["scored_at"].dt.timestamp("ms").min()  # type: ignore[assignment]
        file = file_name(first, version, self._process, self._files)
        metadata = {FACTS: self._facts[name, version].model_dump_json()}

        def write(target: BinaryIO) -> None:
            rows.write_parquet(target, compression="zstd", metadata=metadata)

        self.lake.write(self.lake.path(REQUESTS, name, f"{quarter:%Y-%m-%d}", file), write)
