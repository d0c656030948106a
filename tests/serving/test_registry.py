"""Which version is served: promotions and rollbacks are followed, and a version that fails its check is refused."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from ml_assets.contracts.artifacts.evaluation import OperatingPoint
from ml_assets.contracts.errors import DataError
from ml_assets.lake.errors import FormatVersionError, LakeError
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.store import Lake, Origin
from ml_assets.logic.training.golden_rows import with_golden_rows
from ml_assets.serving import registry as registry_module
from ml_assets.serving.app import Application
from ml_assets.serving.metrics import Metrics
from ml_assets.serving.output_watch import OutputWatch
from ml_assets.serving.polling import Poller
from ml_assets.serving.registry import RETRY_SECONDS, Registry, Swap
from tests.builders import promotion
from tests.serving.asgi import sent_to
from tests.stages.shop import Trained


class Releases:
    """A lake with three versions of a model, of which the last gives its golden rows other scores than it stores."""

    def __init__(self, lake: Lake, trained: Trained) -> None:
        self.lake, self.log = lake, PromotionLog(lake, "returns")
        spec, golden = trained.model.spec, trained.model.golden
        assert golden is not None
        other = replace(trained.model, spec=spec.model_copy(update={"training_rows": spec.training_rows + 1}))
        broken = replace(trained.model, golden=golden.with_columns(pl.col("score") / 2))
        models = (trained.model, with_golden_rows(other, trained.training_set), broken)
        self.first, self.second, self.broken = (
            lake.put("returns/model", None, model, Origin()).version for model in models
        )
        self.promote(self.first)

    def promote(self, version: str) -> None:
        number = self.log.newest_number() + 1
        self.log.append(promotion(number, champion=version, model="returns"), number=number)


@pytest.fixture
def releases(trained: Trained, tmp_path: Path) -> Releases:
    return Releases(Lake(str(tmp_path)), trained)


def test_a_promotion_and_a_rollback_replace_the_served_version(releases: Releases) -> None:
    registry = Registry.open(releases.lake, ["returns"])
    assert (releases.first, 1) == (registry["returns"].version, registry["returns"].entry.number)
    assert registry.refresh("returns") is None

    for number, version in ((2, releases.second), (3, releases.first)):
        releases.promote(version)
        swap = registry.refresh("returns")
        assert swap == Swap(registry["returns"], number)
        assert (version, number) == (registry["returns"].version, registry["returns"].entry.number)


def test_a_rejected_challenger_changes_nothing(releases: Releases) -> None:
    registry = Registry.open(releases.lake, ["returns"])
    before = registry["returns"]
    entry = promotion(2, champion=releases.first, model="returns").model_copy(update={"action": "reject"})
    releases.log.append(entry, number=2)

    assert registry.refresh("returns") is None
    assert before is registry["returns"]


def test_a_version_that_fails_its_check_is_refused_once_and_the_current_one_stays(releases: Releases) -> None:
    now = [0.0]
    registry = Registry.open(releases.lake, ["returns"])
    registry.clock = lambda: now[0]
    before = registry["returns"]
    releases.promote(releases.broken)

    swap = registry.refresh("returns")

    assert swap is not None
    assert "32 of 32 golden rows other scores" in (swap.refused or "")
    assert (before, 2) == (swap.served, swap.entry)
    now[0] = RETRY_SECONDS
    assert registry.refresh("returns") is None
    assert before is registry["returns"]
    releases.promote(releases.second)
    registry.refresh("returns")
    assert releases.second == registry["returns"].version


def test_a_version_that_is_restored_is_served_at_the_next_try(releases: Releases) -> None:
    now = [0.0]
    registry = Registry.open(releases.lake, ["returns"])
    registry.clock = lambda: now[0]
    folder = Path(releases.lake.url, "artifacts/returns/model", releases.second)
    text = (folder / "booster.txt").read_bytes()
    (folder / "booster.txt").unlink()
    releases.promote(releases.second)
    refused = registry.refresh("returns")
    assert refused is not None
    assert refused.refused is not None

    (folder / "booster.txt").write_bytes(text)
    assert registry.refresh("returns") is None
    now[0] = RETRY_SECONDS
    swap = registry.refresh("returns")
    assert Swap(registry["returns"], 2) == swap
    assert releases.second == registry["returns"].version


def test_a_pinned_version_stays_and_must_have_been_champion(releases: Releases) -> None:
    releases.promote(releases.second)
    registry = Registry.open(releases.lake, ["returns"], {"returns": releases.first[:12]})

    assert (releases.first, 1) == (registry["returns"].version, registry["returns"].entry.number)
    releases.promote(releases.second)
    assert registry.refresh("returns") is None
    for wrong in (releases.broken, releases.first[:3], ""):
        with pytest.raises(
            DataError, match=f"version '{wrong}' of model 'returns' is not that of exactly one champion"
        ):
            Registry.open(releases.lake, ["returns"], {"returns": wrong})


@pytest.mark.parametrize(("point", "threshold"), [
    (OperatingPoint(threshold=0.25), 0.25), (OperatingPoint(top_share=0.1, cut=0.75), 0.75),
    (OperatingPoint(top_share=0.1), None),
])  # fmt: skip
def test_the_threshold_is_that_of_the_evaluation_of_the_version(
    releases: Releases, trained: Trained, point: OperatingPoint, threshold: float | None
) -> None:
    assert Registry.open(releases.lake, ["returns"])["returns"].threshold is None
    summary = trained.evaluation.summary.model_copy(update={"operating_point": point})
    evaluated = replace(trained.evaluation, summary=summary)
    evaluation = releases.lake.put("returns/evaluation", None, evaluated, Origin()).version
    entry = promotion(2, champion=releases.second, model="returns")
    releases.log.append(entry.model_copy(update={"evaluation_version": evaluation}), number=2)
    releases.promote(releases.second)

    assert threshold == Registry.open(releases.lake, ["returns"])["returns"].threshold


def test_a_model_without_a_champion_or_with_other_scores_is_not_served(releases: Releases, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model 'returns' has no champion .* ml-assets run returns"):
        Registry.open(Lake(str(tmp_path / "empty")), ["returns"])
    with pytest.raises(LakeError, match="'Returns' is not a valid model name"):
        Registry.open(releases.lake, ["Returns"])
    releases.promote(releases.broken)
    with pytest.raises(DataError, match="golden rows other scores than when it was trained"):
        Registry.open(releases.lake, ["returns"])


def test_while_versions_change_each_answer_has_one_version_and_none_is_lost(releases: Releases) -> None:
    swaps: list[Swap] = []
    application = Application(Registry.open(releases.lake, ["returns"]))
    entries = {1: releases.first}

    async def clients() -> None:
        for number in range(2, 6):
            version = releases.second if number % 2 == 0 else releases.first
            entries[number] = version
            await asyncio.to_thread(releases.promote, version)
            for _ in range(20):
                answer = await sent_to(application, "POST", "/v1/models/returns/predict", [BODY], HEADERS)
                assert answer is not None
                assert 200 == answer.status
                assert entries[answer.json["entry"]] == answer.json["version"] == answer.headers["model-version"]
                await asyncio.sleep(0.005)

    async def both() -> None:
        reached, loop = asyncio.Event(), asyncio.get_running_loop()

        def on_swap(swap: Swap) -> None:
            swaps.append(swap)
            if swap.entry == 5:
                loop.call_soon_threadsafe(reached.set)

        poller = Poller(application.registry, application.metrics, on_swap, 0.01)
        polling = asyncio.create_task(poller.run())
        await clients()
        await asyncio.wait_for(reached.wait(), 20)
        polling.cancel()
        with suppress(asyncio.CancelledError):
            await polling

    asyncio.run(both())

    assert releases.first == application.registry["returns"].version
    assert swaps
    assert all(it.refused is None for it in swaps)


def test_a_version_of_a_newer_release_is_refused(releases: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry.open(releases.lake, ["returns"])
    releases.promote(releases.second)

    def fail(*_: object, **__: object) -> None:
        raise FormatVersionError("a newer release wrote it")

    monkeypatch.setattr(registry_module, "load_served_model", fail)

    assert Swap(registry["returns"], 2, "a newer release wrote it") == registry.refresh("returns")
    assert registry.refresh("returns") is None


async def poll_until(is_over: threading.Event, poller: Poller) -> None:
    """Let a poller run until an event is set."""
    polling = asyncio.create_task(poller.run())
    assert await asyncio.to_thread(is_over.wait, 60)
    polling.cancel()
    with suppress(asyncio.CancelledError):
        await polling


def test_each_unreachable_log_is_logged_once_and_any_other_error_does_not_end_the_search(
    releases: Releases, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry, rounds, is_over = Registry.open(releases.lake, ["returns"]), 0, threading.Event()
    registry.slots |= {"delays": registry.slots["returns"], "sales": registry.slots["returns"]}

    def refresh(_: Registry, name: str) -> None:
        nonlocal rounds
        if name == "delays":
            raise LakeError("the lake is down")
        if name == "sales":
            rounds += 1
            if rounds == 1:
                raise KeyError("a defect")
            if rounds == 3:
                is_over.set()

    monkeypatch.setattr(Registry, "refresh", refresh)

    with caplog.at_level("INFO", logger="ml_assets.serving"):
        asyncio.run(poll_until(is_over, Poller(registry, Metrics(), seconds=0.001)))

    assert ["the promotion log cannot be read", "the search for a newer champion failed"] == [
        it.message for it in caplog.records
    ]


BODY = b'{"rows": [{"shop": "a", "items": 1, "weight kg": null}]}'
HEADERS = {"content-type": "application/json"}


def test_an_unreachable_lake_and_a_failed_alert_change_nothing(
    releases: Releases, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry, metrics = Registry.open(releases.lake, ["returns"]), Metrics()
    steps: Iterator[Exception | Swap | None] = iter(
        [
            LakeError("the lake is down"),
            LakeError("the lake is down"),
            None,
            Swap(registry["returns"], 2, "it is broken"),
        ]
    )

    is_over = threading.Event()

    def refresh(_: Registry, name: str) -> Swap | None:
        try:
            step = next(steps)
        except StopIteration:
            is_over.set()
            return None
        if isinstance(step, Exception):
            raise step
        return step

    def fail(_: Swap) -> None:
        raise ConnectionError("no channel")

    monkeypatch.setattr(Registry, "refresh", refresh)

    with caplog.at_level("INFO", logger="ml_assets.serving"):
        asyncio.run(poll_until(is_over, Poller(registry, metrics, fail, 0.001)))

    assert [
        "the promotion log cannot be read", "the promotion log can be read again", "a newer champion is refused",
        "the alert about a champion was not sent",
    ] == [it.message for it in caplog.records]  # fmt: skip
    assert 'ml_assets_refused_versions_total{model="returns"} 1' in metrics.text([registry["returns"]], OutputWatch())
