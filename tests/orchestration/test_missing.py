"""What a run cannot make because raw days have not come, and what it does then."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.cli.flow.newest_day import newest_day_of_data
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.orchestration.flow import Span
from ml_assets.orchestration.missing import landable, without_missing
from tests.automation.updated import DAYS, MODEL, assets
from tests.builders import Note, flights_declared, put
from tests.flights import build
from tests.killing import small_sources

FIRST = [*DAYS[:6]]


def made(tmp_path: Path, *, table: bool, model: bool, absent: str) -> dict[str, list[str]]:
    """Return what can be made of six days where `raw/a` has no file of one; z reads a day back of x, and x `raw/a`."""
    graph = dg.Definitions(assets(allow_gaps=table)).resolve_asset_graph()
    declared = flights_declared(allow_gaps=model).models[0].model_copy(update={"name": MODEL})
    wanted = {
        dg.AssetKey(name.split("/")): FIRST
        for name in ("raw/a", "raw/b", "tables/x", "tables/y", "tables/z", "m/features", "m/labels")
    }
    there = {dg.AssetKey(["raw", "a"]): {*FIRST} - {absent}}
    found = without_missing(graph, Lake(str(tmp_path)), declared, wanted, there)
    return {key.to_user_string(): days for key, days in found.items()}


def test_a_run_is_rejected_before_it_begins_with_the_days_that_have_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        made(tmp_path, table=False, model=False, absent=DAYS[2])

    own = f"m/features of {DAYS[2]} to {DAYS[3]}, m/labels of {DAYS[2]}"
    assert f"raw/a of {DAYS[2]} has no file, so {own} cannot be materialized." in str(caught.value)
    assert "declare `allow_gaps: true` for tables/z, model m." in str(caught.value)
    with pytest.raises(DataError, match="`allow_gaps: true` for tables/z, model m"):
        made(tmp_path, table=False, model=True, absent=DAYS[2])
    with pytest.raises(DataError, match="`allow_gaps: true` for model m"):
        made(tmp_path, table=True, model=False, absent=DAYS[2])


def test_a_run_continues_without_missing_days_if_gaps_are_allowed(tmp_path: Path) -> None:
    left = [day for day in FIRST if day != DAYS[2]]

    found = made(tmp_path, table=True, model=True, absent=DAYS[2])

    assert {"raw/b": FIRST, "tables/y": FIRST} | dict.fromkeys(
        ("raw/a", "tables/x", "tables/z", "m/features", "m/labels"), left
    ) == found
    assert made(tmp_path, table=False, model=False, absent="") == dict.fromkeys(found, FIRST)


def test_a_run_ends_with_the_newest_day_of_the_data_and_not_with_the_last_declared(
    tmp_path: Path, manifest: Mapping[str, Any]
) -> None:
    """Case 13: the data of both files ends on 11 January, and the days are declared until 10 February."""
    small_sources(tmp_path)
    files = {name: {"file": f"{tmp_path}/{name}.csv"} for name in ("flights", "weather")}
    lake, contracts = LakeResource(url=str(tmp_path / "lake")), contracts_from_dbt(manifest)

    def newest(raw: Mapping[str, Mapping[str, Any]]) -> date | None:
        declared = flights_declared(raw=raw)
        graph = build(lake=lake, declared=declared, manifest=manifest).resolve_asset_graph()
        return newest_day_of_data(graph, lake.connect(), declared, declared.models[0], contracts)

    assert date(2013, 1, 11) == newest(files)
    (tmp_path / "weather-2013-01-05.csv").write_text("", encoding="utf-8")
    assert date(2013, 1, 5) == newest(
        {**files, "weather": {"file": None, "partition_by": None, "files": f"{tmp_path}/weather-{{day}}.csv"}}
    )
    model = flights_declared().models[0]
    span = Span.of(model, as_of=None, first=None, last=None, newest_data=date(2013, 1, 30))
    assert Span(date(2013, 1, 30), date(2013, 1, 17), date(2013, 1, 30)) == span


def test_a_day_exists_if_it_was_landed_or_its_file_exists(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"{DAYS[1]}.csv").write_text("n\n1\n", encoding="utf-8")
    put(lake, Note(text="landed"), asset="raw/flights", partition=DAYS[0])
    declared = flights_declared(raw={"flights": {"file": None, "files": f"{tmp_path}/in/{{day}}.csv"}})

    keys = [dg.AssetKey(["raw", name]) for name in ("flights", "weather")]
    assert {keys[0]: {DAYS[0], DAYS[1]}} == landable(lake, declared, keys)
