"""A soak of the prediction service: promotions, honest clients, and clients that send what breaks services.

Two versions of a model, one of them with half of its trees, are promoted in turn in a lake of its own. Each answer is
compared with the scores of the version that it names.
"""

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import median
from typing import Any, Final

import polars as pl
import psutil

from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.decisions import Promotion
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.store import Lake, Origin
from ml_assets.logic.training.booster import booster_of, predict
from ml_assets.logic.training.golden_rows import golden_rows

REACHED_SECONDS: Final = 10.0
"""How long after a promotion a former version may still answer."""
BURST: Final = 80
"""Requests at once, more than the service takes: the others are answered with 503."""
_JSON: Final = "Content-Type: application/json\r\n"


@dataclass
class Soak:
    """What the clients have seen.

    Attributes:
        answers: how many answers each kind of client got, by status.
        problems: what must not be, in sentences; the first ones.
        memory_mib: of the service, each half second.
    """

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    promotions: int = 0

    def add_problem(self, sentence: str) -> None:
        """Add a problem, of which the first hundred are enough."""
        if len(self.problems) < 100:
            self.problems.append(sentence)

    @property
    def growth(self) -> float:
        """The memory of the last quarter of the time, divided by that of the second quarter."""
        quarter = max(1, len(self.memory_mib) // 4)
        return median(self.memory_mib[-quarter:]) / median(self.memory_mib[quarter : 2 * quarter])

    def lines(self) -> list[str]:
        """Return the result as text."""
        counted = [f"{kind}: {count:,} with {status}" for (kind, status), count in sorted(self.answers.items())]
        memory = f"{median(self.memory_mib):.0f} MiB, at the end {self.growth:.2f} times those of the second quarter"
        problems = self.problems or ["no problem"]
        return [f"{self.promotions} promotions", *counted, memory, *problems]


@dataclass
class _Scene:
    """The running service, its two versions, and what is promoted since when."""

    model: str
    port: int
    rows: list[dict[str, Any]]
    scores: Mapping[str, Sequence[float]]
    champions: dict[int, tuple[str, float]]
    found: Soak
    until: float
    is_provoked: bool = False

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until


def soak(model: Model, name: str, *, seconds: float, promote_every: float) -> Soak:
    """Run the service under all clients at once, and return what they have seen."""
    folder = tempfile.mkdtemp()
    try:
        return asyncio.run(_soak(Lake(folder), model, name, seconds, promote_every))
    finally:
        shutil.rmtree(folder)


async def _soak(lake: Lake, model: Model, name: str, seconds: float, promote_every: float) -> Soak:
    rows = golden_rows(model)
    versions = {
        lake.put(f"{name}/model", None, it, Origin()).version: predict(it, rows)["score"].to_list()
        for it in (model, _with_half_of_the_trees(model))
    }
    log, champions = PromotionLog(lake, name), dict[int, tuple[str, float]]()
    _promote(log, name, [*versions], champions)
    async with _service(lake, name) as (port, process):
        scene = _Scene(name, port, rows.to_dicts(), versions, champions, Soak(), time.monotonic() + seconds)
        clients: list[Callable[[_Scene], Awaitable[None]]] = [
            _one_row, _one_row, _one_row, _all_rows, _leave, _garbage, _oversized, _slow, _burst,
        ]  # fmt: skip

        async def promote() -> None:
            while not scene.is_over:
                await asyncio.sleep(promote_every)
                await asyncio.to_thread(_promote, log, name, [*versions], champions)
                scene.found.promotions += 1

        async def look() -> None:
            while not scene.is_over:
                scene.found.memory_mib.append(process.memory_info().rss / 2**20)
                await asyncio.sleep(0.5)

        async def repeat(client: Callable[[_Scene], Awaitable[None]]) -> None:
            while not scene.is_over:
                try:
                    await client(scene)
                except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
                    scene.found.add_problem(f"{client.__name__}: {error!r}")

        await asyncio.gather(promote(), look(), *(repeat(it) for it in clients))
        return scene.found


def _with_half_of_the_trees(model: Model) -> Model:
    booster = booster_of(model.text)
    half = replace(model, booster=booster.model_to_string(num_iteration=max(1, booster.current_iteration() // 2)))
    assert model.golden is not None
    scores = predict(half, golden_rows(model), threads=1).select(pl.col(pl.Float64))
    return replace(half, golden=model.golden.with_columns(scores.get_columns()))


def _promote(log: PromotionLog, name: str, versions: Sequence[str], champions: dict[int, tuple[str, float]]) -> None:
    number = log.newest_number() + 1
    champion = versions[number % len(versions)]
    entry = Promotion(
        number=number, model=name, action="promote", champion=champion, challenger=champion, reasons=("a soak",),
        decided_at=datetime.now(UTC), decided_by="gate",
    )  # fmt: skip
    champions[number] = (champion, time.monotonic())
    log.append(entry, number=number)


@asynccontextmanager
async def _service(lake: Lake, name: str) -> AsyncIterator[tuple[int, psutil.Process]]:
    command = [sys.executable, "-m", "ml_assets.cli.main", "serve", name, "--port", "0"]
    environment = {**os.environ, "ML_ASSETS_LAKE": lake.url}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        assert process.stderr is not None
        lines = process.stderr
        first = json.loads(await asyncio.to_thread(lines.readline))
        reading = asyncio.create_task(asyncio.to_thread(lines.read))
        try:
            yield int(first["url"].split(":")[2].partition("/")[0]), psutil.Process(process.pid)
        finally:
            process.terminate()
            await reading


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@asynccontextmanager
async def _connection(scene: _Scene) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", scene.port), 30)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> _Answer:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode("latin-1").split("\r\n")
    headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in head[1:])}
    body = await asyncio.wait_for(reader.readexactly(int(headers.get("content-length", "0"))), 30)
    return _Answer(int(head[0].split()[1]), headers, body)


def _head(scene: _Scene, length: int | None, more: str = _JSON) -> bytes:
    size = "Transfer-Encoding: chunked\r\n" if length is None else f"Content-Length: {length}\r\n"
    return f"POST /v1/models/{scene.model}/predict HTTP/1.1\r\nHost: a\r\n{more}{size}\r\n".encode()


def _count(scene: _Scene, client: str, answer: _Answer, expected: set[int]) -> bool:
    """Count an answer, and return whether it is a successful one."""
    scene.found.answers[client, str(answer.status)] += 1
    is_limit = answer.status == 503 and scene.is_provoked and "retry-after" in answer.headers
    if answer.status not in expected and not is_limit:
        scene.found.add_problem(f"{client}: status {answer.status}, {answer.body[:200]!r}")
    return answer.status == 200


async def _scored(scene: _Scene, client: str, places: Sequence[int]) -> None:
    """Send rows over one connection, and compare the scores with those of the version that the answer names."""
    body = json.dumps({"rows": [scene.rows[place] for place in places]}).encode()
    async with _connection(scene) as (reader, writer):
        for _ in range(50):
            sent_at = time.monotonic()
            writer.write(_head(scene, len(body)) + body)
            answer = await _answer(reader)
            if not _count(scene, client, answer, {200}):
                await asyncio.sleep(0.1)
                continue
            content = json.loads(answer.body)
            number, version = content["entry"], content["version"]
            if (version, str(number)) != (answer.headers["model-version"], answer.headers["promotion-entry"]):
                scene.found.add_problem(f"{client}: headers name another version than the body")
            if scene.champions[number][0] != version:
                scene.found.add_problem(f"{client}: entry {number} is not of version {version}")
            if any(at < sent_at - REACHED_SECONDS for it, (_, at) in scene.champions.items() if it > number):
                scene.found.add_problem(f"{client}: entry {number} answers long after the next one")
            if [it["score"] for it in content["predictions"]] != [scene.scores[version][it] for it in places]:
                scene.found.add_problem(f"{client}: scores of another version than {version}")


async def _one_row(scene: _Scene) -> None:
    await _scored(scene, "one row", [random.randrange(len(scene.rows))])  # noqa: S311 - not for secrets


async def _all_rows(scene: _Scene) -> None:
    await _scored(scene, "all rows", range(len(scene.rows)))


async def _leave(scene: _Scene) -> None:
    """Close the connection within the body, or before the answer."""
    body = json.dumps({"rows": scene.rows}).encode()
    for sent in (body[: len(body) // 2], body):
        async with _connection(scene) as (_, writer):
            writer.write(_head(scene, len(body)) + sent)
            await writer.drain()
        scene.found.answers["leaves", "no answer"] += 1
    await asyncio.sleep(0.02)


async def _garbage(scene: _Scene) -> None:
    """Send what is no HTTP, no JSON, or no rows."""
    noise = random.randbytes(random.randrange(1, 2_000))  # noqa: S311 - not for secrets
    nested = b'{"rows": ' + b"[" * 50_000
    for body, status in ((noise, {400, 422}), (nested, {400}), (b'{"rows": [{"a": 1e999}]}', {400, 422})):
        async with _connection(scene) as (reader, writer):
            writer.write(_head(scene, len(body)) + body)
            _count(scene, "garbage", await _answer(reader), status)
    async with _connection(scene) as (reader, writer):
        writer.write(noise + b"\r\n\r\n")
        with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            await asyncio.wait_for(reader.read(100), 1)
        scene.found.answers["garbage", "no HTTP"] += 1
    await asyncio.sleep(0.02)


async def _oversized(scene: _Scene) -> None:
    """Announce a body that is too large, and send one without announcing it."""
    async with _connection(scene) as (reader, writer):
        writer.write(_head(scene, 10**9))
        _count(scene, "oversized", await _answer(reader), {413})
    part = b"%x\r\n" % 2**20 + b" " * 2**20 + b"\r\n"
    async with _connection(scene) as (reader, writer):
        writer.write(_head(scene, None))
        with suppress(ConnectionError):
            for _ in range(20):
                writer.write(part)
                await writer.drain()
        with suppress(ConnectionError, asyncio.IncompleteReadError):  # the service may close before all has arrived
            _count(scene, "oversized", await _answer(reader), {413})
    await asyncio.sleep(0.5)


async def _slow(scene: _Scene) -> None:
    """Send a byte of the body a second, until the service gives up."""
    async with _connection(scene) as (reader, writer):
        writer.write(_head(scene, 1_000))

        async def answered() -> None:
            with suppress(ConnectionError):  # the service may close before it has read the last byte
                _count(scene, "slow", await _answer(reader), {408})

        reading = asyncio.create_task(answered())
        while not reading.done() and not scene.is_over:
            with suppress(ConnectionError):
                writer.write(b" ")
                await writer.drain()
            await asyncio.sleep(1)
        if reading.done():
            await reading
        else:
            reading.cancel()


async def _burst(scene: _Scene) -> None:
    """Hold more requests open than the service takes, for a second, and then leave."""
    await asyncio.sleep(4)
    scene.is_provoked = True
    writers = []
    for _ in range(BURST):
        _, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(_head(scene, 1_000))
        writers.append(writer)
    await asyncio.sleep(1)
    for writer in writers:
        writer.close()
    await asyncio.sleep(1)
    scene.is_provoked = False
