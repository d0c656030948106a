"""What is out of date, and which partitions an asset reads of another."""

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.declaration.parts import Days
from ml_assets.lake.days import OPTIONAL_LOOK_BACK
from ml_assets.lake.store import Lake
from ml_assets.models.plan import partitions_over
from ml_assets.orchestration.staleness import (
    LOOK_BACK,
    Wanted,
    first_to_make,
    out_of_date,
    readers_of,
    reads_of,
    required_of,
)
from tests.builders import frame, put

JANUARY = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-02-01")


def graph_of(
    *,
    mapping: dg.PartitionMapping | None = None,
    exact: int | None = None,
    days: dg.PartitionsDefinition[str] = JANUARY,
) -> Any:
    """Return a graph where `child` reads `parent` by day, and `summary` reads all of `parent`."""
    metadata = {} if exact is None else {LOOK_BACK: dg.MetadataValue.json({"parent": exact})}

    @dg.asset(partitions_def=days)
    def parent() -> int:
        return 1

    @dg.asset(partitions_def=days, ins={"parent": dg.AssetIn(partition_mapping=mapping)}, metadata=metadata)
    def child(parent: int) -> int:
        return parent

    @dg.asset
    def summary(parent: int) -> int:
        return parent

    @dg.asset(partitions_def=days)
    def beside(summary: int) -> int:
        return summary

    return dg.Definitions(assets=[parent, child, summary, beside]).resolve_asset_graph()


def test_a_day_reads_its_own_day_unless_a_partition_mapping_adds_others() -> None:
    back = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=1, allow_nonexistent_upstream_partitions=True)

    assert reads_of(graph_of(), dg.AssetKey("child"), dg.AssetKey("parent"), "2013-01-05") == ["2013-01-05"]
    assert reads_of(graph_of(mapping=back), dg.AssetKey("child"), dg.AssetKey("parent"), "2013-01-05") == [
        "2013-01-04", "2013-01-05", "2013-01-06",
    ]  # fmt: skip


def test_a_look_back_in_the_metadata_is_more_exact_than_the_mapping() -> None:
    wide = dg.TimeWindowPartitionMapping(start_offset=-28, allow_nonexistent_upstream_partitions=True)
    graph = graph_of(mapping=wide, exact=2)

    assert reads_of(graph, dg.AssetKey("child"), dg.AssetKey("parent"), "2013-01-05") == [
        "2013-01-03", "2013-01-04", "2013-01-05",
    ]  # fmt: skip


def test_a_look_back_of_days_reads_the_whole_periods_that_it_may_reach() -> None:
    child, parent = dg.AssetKey("child"), dg.AssetKey("parent")
    months = partitions_over(Days(first=date(2013, 1, 1), last=date(2013, 12, 31), grain="month"))

    for look_back, first in ((0, 3), (28, 2), (29, 1)):
        graph = graph_of(exact=look_back, days=months)
        read = [f"2013-{month:02}-01" for month in range(first, 4)]
        assert read == reads_of(graph, child, parent, "2013-03-01")
        assert all("2013-03-01" in (readers_of(graph, child, parent, one) or []) for one in read)


def test_an_artifact_of_another_grain_is_out_of_date_although_its_key_is_the_same(lake: Lake) -> None:
    days, parent = ["2013-01-01"], dg.AssetKey("parent")
    months = partitions_over(Days(first=date(2013, 1, 1), last=date(2013, 12, 31), grain="month"))
    code = graph_of().get(parent).code_version
    by_day = put(lake, frame(1), asset="parent", partition=days[0], code_version=code)

    assert [{}, {parent: {by_day.partition: "parameters"}}] == [
        out_of_date(graph, lake, Wanted({parent: days}, {})) for graph in (graph_of(), graph_of(days=months))
    ]
    put(lake, frame(1), asset="parent", partition=days[0], code_version=code, parameters={"grain": "month"})
    assert {} == out_of_date(graph_of(days=months), lake, Wanted({parent: days}, {}))


def test_the_readers_of_a_day_are_the_inverse_of_the_days_that_a_day_reads() -> None:
    wide = dg.TimeWindowPartitionMapping(start_offset=-28, allow_nonexistent_upstream_partitions=True)
    ahead = dg.TimeWindowPartitionMapping(end_offset=1, allow_nonexistent_upstream_partitions=True)
    child, parent = dg.AssetKey("child"), dg.AssetKey("parent")

    assert ["2013-01-05", "2013-01-06", "2013-01-07"] == readers_of(
        graph_of(mapping=wide, exact=2), child, parent, "2013-01-05"
    )
    assert ["2013-01-04", "2013-01-05"] == readers_of(graph_of(mapping=ahead), child, parent, "2013-01-05")
    assert [""] == readers_of(graph_of(), dg.AssetKey("summary"), parent, "2013-01-05")
    assert readers_of(graph_of(), dg.AssetKey("beside"), dg.AssetKey("summary"), "") is None


def test_an_unpartitioned_asset_reads_all_partitions_and_is_read_as_one() -> None:
    assert reads_of(graph_of(), dg.AssetKey("summary"), dg.AssetKey("parent"), "") is None
    assert reads_of(graph_of(), dg.AssetKey("beside"), dg.AssetKey("summary"), "2013-01-05") == [""]


def test_a_day_is_out_of_date_until_rows_released_for_it_are_among_its_inputs(tmp_path: Path) -> None:
    lake, graph, key = Lake(str(tmp_path)), graph_of(), dg.AssetKey("parent")
    code = graph.get(key).code_version
    for day in ("2013-01-05", "2013-01-06"):
        put(lake, frame(1), asset="parent", partition=day, code_version=code)
    released = put(lake, frame(2), asset="parent__released", partition="2013-01-06").ref
    wanted = Wanted({key: ["2013-01-05", "2013-01-06"]}, {}, beside={key: {"2013-01-06": [released]}})

    assert {key: {"2013-01-06": "inputs"}} == out_of_date(graph, lake, wanted)

    put(lake, frame(1), asset="parent", partition="2013-01-06", code_version=code, inputs=(released,))
    assert {} == out_of_date(graph, lake, wanted)


def test_an_optional_look_back_requires_no_day_but_its_own() -> None:
    day, days = "2013-01-04", dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-09")
    back = dg.TimeWindowPartitionMapping(start_offset=-2, allow_nonexistent_upstream_partitions=True)

    @dg.asset(partitions_def=days)
    def predictions() -> None: ...

    def drift(**metadata: Any) -> dg.AssetsDefinition:
        @dg.asset(
            name="drift", partitions_def=days, metadata=metadata,
            ins={"predictions": dg.AssetIn(partition_mapping=back)},
        )  # fmt: skip
        def made(predictions: int) -> None: ...

        return made

    keys = dg.AssetKey("drift"), dg.AssetKey("predictions")
    required, optional = (
        required_of(dg.Definitions([predictions, asset]).resolve_asset_graph(), *keys, day)
        for asset in (drift(), drift(**{OPTIONAL_LOOK_BACK: True}))
    )

    assert ["2013-01-02", "2013-01-03", day] == required
    assert [day] == optional


def test_dependents_of_a_table_with_changed_rules_wait_until_its_content_is_known_to_differ(tmp_path: Path) -> None:
    lake, day = Lake(str(tmp_path)), "2013-01-05"
    days = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-02-01")

    def graph(**parameters: str) -> Any:
        metadata = {"ml_assets/parameters": dg.MetadataValue.json(parameters)}

        @dg.asset(partitions_def=days, metadata=metadata, code_version="1")
        def parent() -> int:
            return 1

        @dg.asset(partitions_def=days, code_version="1")
        def child(parent: int) -> int:
            return parent

        return dg.Definitions(assets=[parent, child]).resolve_asset_graph()

    def late(**parameters: str) -> dict[str, list[str]]:
        stale = out_of_date(graph(**parameters), lake, Wanted({parent: [day], child: [day]}, {}))
        return {key.to_user_string(): [*keys] for key, keys in first_to_make(stale).items()}

    parent, child = dg.AssetKey("parent"), dg.AssetKey("child")
    made_by = {"contract": "loose", "file": "a.csv"}
    raw = put(lake, frame(1), asset="parent", partition=day, code_version="1", parameters=made_by).ref
    put(lake, frame(1), asset="child", partition=day, code_version="1", inputs=(raw,))

    assert {} == late(**made_by)
    assert {"parent": [day]} == late(contract="strict", file="a.csv")
    assert {"parent": [day], "child": [day]} == late(contract="strict", file="b.csv")
