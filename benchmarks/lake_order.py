"""What the numbered records of publications cost, beside choosing the newest manifest by its clock as it was before.

Writing: `Lake.put_each` of small tables, with and without the record. Reading: a stale check (`out_of_date`) of a lake
of many artifacts, each way in turn. On a disk the seconds count, on a pretended S3 the requests. It is run by
`python -m benchmarks.lake order`.
"""

import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final
from unittest.mock import patch

import dagster as dg
import polars as pl

from ml_assets.adapters.dagster import AssetGraph
from ml_assets.lake.copies import Copies
from ml_assets.lake.manifest import ArtifactRef, FileEntry, Manifest
from ml_assets.lake.objects import Stat
from ml_assets.lake.order import OrderRecord, manifest_name
from ml_assets.lake.sealing import seal
from ml_assets.lake.store import Lake, Origin
from ml_assets.orchestration.staleness import Wanted, out_of_date
from tests.faults import FaultyS3
from tests.s3_server import start_s3_server

FIRST: Final = date(2015, 1, 1)
MADE: Final = datetime(2026, 1, 1, tzinfo=UTC)
CHAIN: Final = 6
"""Chains of assets by day, each of which reads the one before; the number of chains can be chosen."""

PUBLISHED: Final = ((1,),) * 16 + ((1, 2), (1, 2), (1, 1), (1, 2, 1))
"""The contents that a day was published with, one after the other, for each of twenty days in turn."""

COLUMNS: Final = {f"column_{number}": "Float64" for number in range(25)}
MOST: Final = 1.10
"""Bar: how much longer a stale check on a disk may take."""


class ByClock(Lake):
    """The lake as it was: what is current has the newest manifest of all, by its clock."""

    def newest(
        self, asset: str, partitions: Sequence[str] | None = None, *, runs: Sequence[str] = ()
    ) -> dict[str, ArtifactRef]:
        """Return the current artifact of each partition."""
        current = {}
        for partition, entries in self._by_partition(asset, partitions).items():
            versions = {it.version for it in entries}
            ref = ArtifactRef(asset=asset, partition=partition or None, version=entries[0].version)
            if len(versions) > 1:
                read = [made for it in entries if (made := self._read_found(asset, it)) is not None]
                own = next((mine for run in runs if (mine := [m for m in read if m.run_id == run])), read)
                ref = max(own, key=lambda it: it.created_at).ref
            current[partition] = ref
        return current

    def manifest(self, ref: ArtifactRef, *, there: Mapping[str, Stat] | None = None) -> Manifest:
        """Return an artifact's newest manifest."""
        return max(self.manifests(ref, there=there), key=lambda it: it.created_at)


class WithoutRecord(Lake):
    """A lake that publishes without a record."""

    def numbers(self, asset: str, partitions: Sequence[str]) -> dict[str, list[int]]:  # noqa: ARG002 - as the lake's
        """Return no numbers."""
        return {key: [] for key in partitions}

    def _publish(self, stored: Any, *, after: int | None) -> Manifest:  # noqa: ANN401, ARG002 - as the lake's
        made: Manifest = stored.manifest
        return made


def measure(*, artifacts: int, on_s3: int, repeat: int) -> None:
    """Measure all, and print it.

    Args:
        artifacts: how many the lake on the disk has.
        on_s3: how many the lake on the pretended S3 has.
        repeat: measurements of each way.
    """
    with tempfile.TemporaryDirectory(prefix="lake-order-") as folder:
        root = Path(folder)
        for tables in (1, 365):
            _writing(root, tables, repeat * 3)
        _on_a_disk(root / "many", artifacts, repeat)
    _on_s3(on_s3)


def _writing(root: Path, tables: int, repeat: int) -> None:
    frames = {str(FIRST + timedelta(days=n)): pl.DataFrame({"n": [n], "word": [f"w{n}"]}) for n in range(tables)}
    took: dict[type[Lake], list[float]] = {Lake: [], WithoutRecord: []}
    for turn in range(repeat):
        for kind in (Lake, WithoutRecord) if turn % 2 else (WithoutRecord, Lake):
            lake = kind(str(root / f"{kind.__name__}-{tables}-{turn}"))
            lake.environment()  # stored once
            os.sync()
            start = time.perf_counter()
            lake.put_each("a/b", {day: (rows, Origin()) for day, rows in frames.items()})
            took[kind].append((time.perf_counter() - start) / tables * 1e3)
    _print(f"write, {tables} at once (ms an artifact)", took[Lake], took[WithoutRecord])


def _on_a_disk(root: Path, artifacts: int, repeat: int) -> None:
    start = time.monotonic()
    graph, wanted, made = _fill(Lake(str(root)), artifacts)
    seconds = time.monotonic() - start
    print(f"{made['versions']:,} artifacts, {made['publications']:,} publications, made in {seconds:.0f} s", flush=True)
    took: dict[type[Lake], list[float]] = {Lake: [], ByClock: []}
    cpu: dict[type[Lake], list[float]] = {Lake: [], ByClock: []}
    for turn in range(repeat):
        for kind in (Lake, ByClock) if turn % 2 else (ByClock, Lake):  # none always comes after the other
            start, before = time.perf_counter(), time.process_time()
            found = out_of_date(graph, kind(str(root)), wanted)
            took[kind].append(time.perf_counter() - start)
            cpu[kind].append(time.process_time() - before)
            if found:
                raise SystemExit(f"{kind.__name__} finds {len(found)} assets out of date; expected none.")
    ratio = _print("stale check on a disk (s)", took[Lake], took[ByClock])
    _print("stale check on a disk (s CPU)", cpu[Lake], cpu[ByClock])
    print(f"bar: at most {MOST} of the time before; {'held' if ratio <= MOST else 'MISSED'}")


def _on_s3(artifacts: int) -> None:
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server, endpoint = start_s3_server()
    try:
        options = {"key": "key", "secret": "secret", "client_kwargs": {"region_name": "us-east-1"}}
        boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key",
            aws_secret_access_key="secret",  # noqa: S106 - of a pretended S3
        ).create_bucket(Bucket="lake")  # fmt: skip
        graph, wanted, made = _fill(Lake("s3://lake/root", {**options, "endpoint_url": endpoint}), artifacts)
        counted = {}
        for kind in (Lake, ByClock):
            # What one has fetched is no gain to the other.
            with FaultyS3(endpoint) as proxy, patch("ml_assets.lake.s3.COPIES", Copies()):
                found = out_of_date(graph, kind("s3://lake/root", {**options, "endpoint_url": proxy.endpoint}), wanted)
                counted[kind] = proxy.requests
            if found:
                raise SystemExit(f"{kind.__name__} finds {len(found)} assets out of date; expected none.")
    finally:
        server.stop()
    print(f"stale check on S3, {made['versions']:,} artifacts, {made['publications']:,} publications:")
    for kind, requests in counted.items():
        lists = sum("list-type" in line for line in requests)
        print(f"  {kind.__name__:<8} {len(requests):6,} requests: {lists:,} listings, {len(requests) - lists:,} reads")
    print(f"bar: no more than before; {'held' if len(counted[Lake]) <= len(counted[ByClock]) else 'MISSED'}")


def _fill(lake: Lake, artifacts: int) -> tuple[AssetGraph, Wanted, dict[str, int]]:
    """Write a lake of which nothing is out of date, and return what a stale check of all of it takes."""
    a_day = sum(len({*contents}) for contents in PUBLISHED) / len(PUBLISHED)
    rows = max(1, round(artifacts / (a_day * CHAIN * 1_450)))
    days = [FIRST + timedelta(days=n) for n in range(round(artifacts / (a_day * CHAIN * rows)))]
    counted = {"versions": 0, "publications": 0}
    assets = []
    for row in range(rows):
        for place in range(CHAIN):
            name, parent = f"row_{row:02}/asset_{place}", f"row_{row:02}/asset_{place - 1}" if place else None
            assets.append(_asset(name, parent, days))
            for n, day in enumerate(days):
                _publish_day(lake, name, parent, n, str(day))
                counted["versions"] += len({*PUBLISHED[n % len(PUBLISHED)]})
                counted["publications"] += len(PUBLISHED[n % len(PUBLISHED)])
    graph = dg.Definitions(assets=assets).resolve_asset_graph()
    return graph, Wanted({asset.key: [str(day) for day in days] for asset in assets}, {}), counted


def _asset(name: str, parent: str | None, days: Sequence[date]) -> dg.AssetsDefinition:
    @dg.asset(
        key=name.split("/"),
        ins={"rows": dg.AssetIn(key=parent.split("/"))} if parent else {},
        partitions_def=dg.DailyPartitionsDefinition(str(days[0]), end_date=str(days[-1] + timedelta(days=1))),
        code_version="c" * 16,
    )
    def made(**rows: Any) -> None:  # noqa: ANN401 - never run
        raise NotImplementedError

    return made


def _publish_day(lake: Lake, name: str, parent: str | None, n: int, day: str) -> None:
    for number, content in enumerate(PUBLISHED[n % len(PUBLISHED)], 1):
        inputs = (_ref(parent, day, PUBLISHED[n % len(PUBLISHED)][-1]),) if parent else ()
        manifest = Manifest(
            **_ref(name, day, content).model_dump(), number=number, created_at=MADE + timedelta(minutes=number),
            inputs=inputs, input_numbers=(1,) * len(inputs), code_version="c" * 16,
            git_commit="d" * 40, git_is_dirty=False, environment="e" * 32,
            run_id=f"run-{n}-{number}", rows=1000, columns=COLUMNS, seconds=0.1,
            files=(FileEntry(name="data.parquet", bytes=1, digest="f" * 32),),
        )  # fmt: skip
        name_of_file = manifest_name(manifest, f"{number:08x}")
        record = OrderRecord.of(manifest, name_of_file)
        _write(lake, f"{lake.directory(manifest.ref)}/data.parquet", b"P")
        _write(lake, f"{lake.directory(manifest.ref)}/{name_of_file}", manifest.text())
        _write(lake, lake.path(record.path), seal(record))


def _write(lake: Lake, path: str, data: bytes) -> None:
    """Write an object; on a disk without waiting for it."""
    if lake.protocol != "file":
        lake.write(path, lambda file: file.write(data) and None)
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data)


def _ref(asset: str, day: str, content: int) -> ArtifactRef:
    return ArtifactRef(asset=asset, partition=day, version=f"{content:032x}")


def _print(what: str, ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Print medians and their ratio with the least and greatest of the pairs, and return the ratio."""
    pairs = [one / other for one, other in zip(ours, theirs, strict=True)]
    ratio = median(ours) / median(theirs)
    print(
        f"{what}: with records {median(ours):.3f}, without {median(theirs):.3f}; ratio {ratio:.2f} "
        f"({min(pairs):.2f} to {max(pairs):.2f}), median of {len(pairs)}",
        flush=True,
    )
    return ratio
