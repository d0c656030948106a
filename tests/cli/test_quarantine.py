from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.cli import quarantine
from ml_assets.contracts.table import Column, TableContract
from ml_assets.lake.quarantine import release, releases, set_aside
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.orchestration.flow import Span
from tests.builders import flights_declared, project, put
from tests.cli.commands import Command
from tests.stages.test_bad_input import source

DAY = "2024-01-02"
DECLARED = """
type: ml_assets.RawTables
attributes:
  days: {first: 2024-01-01}
  tables:
    orders: {file: orders.csv, partition_by: {column: day}, quarantine: 0.5}
    shops: {file: shops.csv}
"""


def rows(*orders: tuple[int, list[str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "day": [date(2024, 1, 2)] * len(orders),
            "n": [n for n, _ in orders],
            "broken_rules": [rules for _, rules in orders],
        },
        schema={"day": pl.Date, "n": pl.Int64, "broken_rules": pl.List(pl.String)},
    )


@pytest.fixture
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Declare that half of a day's rows of raw orders may be quarantined, and none of raw shops."""
    (tmp_path / "pyproject.toml").write_text("[tool.ml-assets]\n", encoding="utf-8")
    (tmp_path / "defs" / "raw").mkdir(parents=True)
    (tmp_path / "defs" / "raw" / "defs.yaml").write_text(DECLARED, encoding="utf-8")
    monkeypatch.setenv("ML_ASSETS_PROJECT", str(tmp_path))
    return tmp_path


def with_orders(lake: Lake) -> None:
    """Put a day of three orders into the lake, one of them quarantined."""
    put(lake, rows((1, []), (2, [])).drop("broken_rules"), asset="raw/orders", partition=DAY)
    put(lake, rows((-3, ["n is at least 0"])), asset="raw/orders__quarantine", partition=DAY)
    put(lake, rows(), asset="raw/orders__quarantine", partition="2024-01-03")


def test_quarantines_are_listed_with_day_rows_share_and_rules(lake: Lake, command: Command) -> None:
    with_orders(lake)

    assert ["raw/orders", DAY, "quarantined", "1", "rows", "33.33%", "n", "is", "at", "least", "0", "(1)"] == (
        command("quarantine").out.split()
    )

    [entry] = command.json("quarantine")
    assert ("raw/orders", DAY, 1, {"n is at least 0": 1}, False) == tuple(
        entry[name] for name in ("table", "day", "rows", "rules", "is_released")
    )


def test_a_refused_day_is_listed_until_it_is_published(lake: Lake, command: Command) -> None:
    put(lake, rows((-1, ["n is at least 0"]), (2, [])), asset="raw/shops__rejected", partition=DAY)

    assert "rejected          1 rows   50.00%" in command("quarantine", "raw/shops").out

    put(lake, rows((2, [])).drop("broken_rules"), asset="raw/shops", partition=DAY)
    assert "nothing of raw/shops is quarantined or rejected\n" == command("quarantine", "raw/shops").out


@pytest.mark.parametrize("is_pii", [False, True])
def test_of_the_rows_of_a_day_key_and_offending_columns_are_shown_and_no_personal_value(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, command: Command, *, is_pii: bool
) -> None:
    shown = "(personal)" if is_pii else "-3"
    number = Column("n", pl.Int64(), minimum=0, is_pii=is_pii)
    contract = TableContract(
        "raw/orders", (Column("day", pl.Date()), number, Column("name", pl.String())), key=("day",)
    )
    monkeypatch.setattr(quarantine, "_contracts", lambda: {"raw/orders": contract})
    aside = rows((-3, ["n is at least 0"])).with_columns(name=pl.lit("Jane Roe"))
    put(lake, aside, asset="raw/orders__quarantine", partition=DAY)

    assert ["n", "is", "at", "least", "0", "day", DAY, "n", shown] == command(
        "quarantine", "raw/orders", DAY
    ).out.split()[-9:]
    [entry] = command.json("quarantine", "raw/orders", DAY)
    assert [{"broken_rules": ["n is at least 0"], "day": DAY, "n": shown if is_pii else -3}] == entry["rows_shown"]


def test_by_the_hour_a_day_has_all_its_local_hours_and_an_hour_is_given_by_its_key(
    lake: Lake, declared: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setattr(quarantine, "_contracts", dict)
    days = "days: {first: 2024-01-01, timezone: Europe/Zurich, grain: hour}"
    text = DECLARED.replace("days: {first: 2024-01-01}", days).replace("day}", "at}")
    (declared / "defs" / "raw" / "defs.yaml").write_text(text, encoding="utf-8")
    for key in ("2024-01-01T22", "2024-01-01T23", "2024-01-02T22", "2024-01-02T23", "2024-01-02"):
        put(lake, rows((-3, ["n is at least 0"])), asset="raw/orders__quarantine", partition=key)

    def shown(day: str) -> list[str]:
        return [entry["day"] for entry in command.json("quarantine", "raw/orders", day)]

    assert ["2024-01-01T23", "2024-01-02", "2024-01-02T22"] == shown(DAY)  # and the one from before the hours
    assert ["2024-01-02T22"] == shown("2024-01-02T22")


def test_no_value_of_a_table_without_a_contract_is_shown(lake: Lake, command: Command) -> None:
    with_orders(lake)

    shown = command("quarantine", "raw/orders", DAY).out
    assert "there is no contract that marks personal values, so no values are shown" in shown
    assert "\n    n is at least 0\n" in shown
    assert "-3" not in shown


def test_a_release_stores_the_rows_with_the_reason_once(lake: Lake, declared: Path, command: Command) -> None:
    assert declared
    with_orders(lake)

    assert (
        f"raw/orders {DAY}: 1 row passes from the next run on\n"
        == command("quarantine", "raw/orders", DAY, "--release", "--why", "they were returns").out
    )
    [ref] = releases(lake, "raw/orders")[DAY]
    assert [(-3,)] == lake.get(ref, pl.DataFrame).select("n").rows()
    assert "they were returns" == lake.manifest(ref).parameters["reason"]
    assert lake.manifest(ref).parameters["released_by"]

    assert command("quarantine", "raw/orders").out.rstrip().endswith("; released")
    assert (
        "these rows were released before"
        in command("quarantine", "raw/orders", DAY, "--release", "--why", "again", code=1).out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["raw/order"], "table 'raw/order' has no quarantined rows and no rejected days in"),
        (["raw/orders", "tomorrow"], "DAY is 'tomorrow'; expected a day such as 2013-12-31"),
        (["--release", "--why", "so"], "needs a TABLE (and perhaps a DAY), and --why"),
        (["raw/orders", "--release"], "needs a TABLE (and perhaps a DAY), and --why"),
        (["raw/orders", "--why", "so"], "--why is the reason of a release; add --release"),
        (["raw/shops", "--release", "--why", "so"], "first declare the share of rows that may be quarantined"),
    ],
)
def test_contradictory_arguments_end_with_2_and_a_fix(
    lake: Lake, declared: Path, arguments: list[str], message: str, command: Command
) -> None:
    assert declared
    with_orders(lake)

    assert message in command("quarantine", *arguments, code=2).err


def test_an_empty_lake_has_no_quarantined_rows(command: Command) -> None:
    assert "nothing is quarantined or rejected\n" == command("quarantine").out


def test_the_next_run_lands_the_day_whose_rows_were_released_and_no_other(
    lake: Lake, tmp_path: Path, manifest: Mapping[str, Any]
) -> None:
    days = ["2013-01-01", "2013-01-02"]
    file = tmp_path / "weather.csv"
    weather = source("weather.csv").filter(pl.col("month") == "1", pl.col("day").is_in(["1", "2"]))
    is_first_of_the_second = (pl.col("day") == "2") & pl.col("day").is_first_distinct()
    weather.with_columns(origin=pl.when(is_first_of_the_second).then(pl.lit("XXX")).otherwise("origin")).write_csv(file)
    declared = flights_declared(raw={"weather": {"file": str(file), "quarantine": 0.5}})
    key = dg.AssetKey(["raw", "weather"])

    with project(LakeResource(url=lake.url), declared, manifest=manifest) as whole:

        def landed() -> list[str]:
            lines: list[str] = []
            span = Span(date(2013, 1, 2), date(2013, 1, 1), date(2013, 1, 2))
            assert whole.flow._groups({"raw": {key: days}}, span, lines.append), whole.log.getvalue()
            return lines

        assert ["raw: weather over 2013-01-01 to 2013-01-02"] == landed()
        assert ["raw: up to date"] == landed()
        [aside] = set_aside(lake)
        assert ("raw/weather", days[1]) == (aside.table, aside.partition)
        release(lake, aside, why="it is a new airport", by="sam")

        assert ["raw: weather for 2013-01-02"] == landed()
        assert ["raw: up to date"] == landed()
        assert [] == [*set_aside(lake)]
