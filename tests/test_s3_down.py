"""The whole flow on an S3 that fails on a fifth of all requests, and one that goes away in the middle of a run."""

import contextlib
import itertools
import os
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest

from ml_assets.contracts.decisions import Promotion
from ml_assets.lake.errors import PromotionConflictError
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from tests.builders import promotion
from tests.faults import FAULTS, FaultyS3
from tests.killing import MODEL, PREDICTED, Undisturbed, outcome, whole_artifacts

S3 = Callable[[str], Mapping[str, Any]]
SOON = {"first_wait": 0.01, "longest_wait": 0.05, "attempts": 12}
"""Of thousands of requests, one in a hundred runs of these tests would meet eight faults in a row, the default."""

_numbers = itertools.count()


class GoesAway(FaultyS3):
    """A server that is gone as soon as somebody asks for something."""

    def __init__(self, endpoint: str, when: str, **faults: Any) -> None:
        super().__init__(endpoint, **faults)
        self.when = when

    def fault(self, line: str, headers: Mapping[str, str]) -> str | None:
        verb, _, place = self.when.partition(" ")
        if not (line.startswith(verb) and f"/lake/{place}" in line):
            return super().fault(line, headers)
        self.gone()
        return "reset"


def bucket() -> str:
    return f"down-{os.getpid()}-{next(_numbers)}"


def lake_at(name: str, options: Mapping[str, Any], **more: Any) -> LakeResource:
    return LakeResource(url=f"s3://{name}/lake", options={**options, **more})


@dataclass(frozen=True)
class Outage:
    """A flow whose server went away while it landed the second raw table: what it said, and how long it took."""

    bucket: str
    options: Mapping[str, Any]
    host: str
    output: str
    seconds: float


@pytest.fixture(scope="module")
def outage(s3: S3, undisturbed: Undisturbed) -> Outage:
    name = bucket()
    options = s3(name)
    with GoesAway(options["endpoint_url"], "PUT artifacts/raw/flights") as proxy:
        with undisturbed.flow(lake_at(name, {**options, "endpoint_url": proxy.endpoint})) as whole:
            since = time.monotonic()
            with pytest.raises(AssertionError) as failed:
                whole.run(first=PREDICTED)
            return Outage(name, options, proxy.host, str(failed.value), time.monotonic() - since)


def test_an_unreachable_server_is_reported_within_30_seconds_with_object_host_and_fix(outage: Outage) -> None:
    assert outage.seconds < 30
    wanted = (
        r"raw/flights failed: cannot \w+ "
        rf"s3://{outage.bucket}/lake/artifacts/raw/flights/\S+: {outage.host} did not respond in .*Check that it is up"
    )
    assert re.search(wanted, outage.output), outage.output


def test_artifacts_stored_before_the_server_failed_are_intact(outage: Outage) -> None:
    lake = lake_at(outage.bucket, outage.options).connect()

    assert {"raw/airlines", "raw/airports"} == {folder.rpartition("/")[0] for folder in whole_artifacts(lake)}
    for table in ("airlines", "airports"):
        assert lake.get(lake.find(f"raw/{table}"), pl.DataFrame).height > 0


def test_when_it_is_back_and_fails_on_a_fifth_of_all_requests_the_flow_ends_as_on_a_disk(
    outage: Outage, undisturbed: Undisturbed
) -> None:
    with FaultyS3(outage.options["endpoint_url"], share=0.2, seed=13) as proxy:
        through = lake_at(outage.bucket, {**outage.options, "endpoint_url": proxy.endpoint}, **SOON)
        with undisturbed.flow(through) as whole:
            whole.run(first=PREDICTED)

    there = lake_at(outage.bucket, outage.options).connect()
    assert outcome(Lake(str(undisturbed.lake))) == outcome(there)
    assert {*FAULTS} == {*proxy.injected}
    assert len(proxy.requests) * 0.15 < proxy.injected.total()


def test_parallel_promoters_on_an_s3_that_fails_leave_a_log_without_gap_and_lose_nothing(s3: S3) -> None:
    name = bucket()
    options = s3(name)
    with FaultyS3(options["endpoint_url"], share=0.2, seed=5) as proxy:
        through = {**options, **SOON, "endpoint_url": proxy.endpoint}

        def promote(who: int) -> list[Promotion]:
            log = PromotionLog(Lake(f"s3://{name}/lake", through), MODEL)
            done: list[Promotion] = []
            while len(done) < 2:
                number = len(log.entries()) + 1
                mine = promotion(number).model_copy(update={"decided_by": f"promoter {who}"})
                with contextlib.suppress(PromotionConflictError):
                    done.append(log.append(mine, number=number))
            return done

        with ThreadPoolExecutor(5) as promoters:
            decided = [entry for done in promoters.map(promote, range(5)) for entry in done]

    kept = PromotionLog(Lake(f"s3://{name}/lake", options), MODEL).entries()
    assert [*range(1, 11)] == [entry.number for entry in kept]
    assert kept == sorted(decided, key=lambda entry: entry.number)
    assert proxy.injected.total() > 10
