"""The days of the loop: what is held back, what is changed, and what is said of the model's logs."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from ml_assets.authoring.loop import (
    BAD_DAY,
    CORRECTED_ON,
    FACTOR,
    KEPT_AFTER,
    MODEL,
    OFFER_BEGINS,
    TRAINED_ON,
    HeldBack,
    Seen,
    loop_files,
    offer_end,
)
from ml_assets.cli.init import project_files
from ml_assets.contracts.decisions import Retraining
from ml_assets.declaration.reading import read_all
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.retraining_log import RetrainingLog
from ml_assets.lake.store import Lake
from tests.builders import promotion

FILES = project_files("loop", is_bare=False)


@pytest.fixture
def held(tmp_path: Path) -> HeldBack:
    (tmp_path / "data").mkdir()
    return HeldBack.of(tmp_path, FILES)


def rows(held: HeldBack, day: date) -> pl.DataFrame:
    held.deliver(day)
    return pl.read_csv(held.folder / "data" / "days" / f"{day}.csv")


def test_the_project_of_the_loop_reads_files_by_day_and_its_declarations_are_valid(tmp_path: Path) -> None:
    changed = loop_files(FILES)
    for path, content in changed.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)

    declared = read_all(tmp_path / "defs")

    [raw] = declared.raw
    assert "data/days/{day}.csv" == raw.tables["rentals"].files
    assert 5 == declared.model(MODEL).retraining.cool_down_days
    assert not [path for path in changed if path.name.startswith("rentals")]


def test_all_days_after_the_first_training_are_held_back_and_delivered_as_they_are(held: HeldBack) -> None:
    assert (date(2011, 7, 2), date(2011, 8, 31), 61) == (held.later[0], held.later[-1], len(held.later))
    lines = FILES[next(it for it in FILES if it.name == "rentals.csv")].decode().splitlines()

    assert (False, 61) == (held.is_begun, len(held.missing))
    held.deliver(TRAINED_ON)
    held.deliver(held.later[0])

    assert (True, 60) == (held.is_begun, len(held.missing))
    text = (held.folder / "data" / "days" / f"{TRAINED_ON}.csv").read_text(encoding="utf-8")
    assert [lines[0], *(it for it in lines if it.startswith(str(TRAINED_ON)))] == text.splitlines()
    assert {f"{TRAINED_ON}.csv", "2011-07-02.csv"} == {it.name for it in (held.folder / "data" / "days").iterdir()}


def test_a_day_is_bad_and_the_offer_multiplies_the_rentals_until_it_ends(held: HeldBack) -> None:
    assert 3 == rows(held, BAD_DAY).filter(pl.col("temp") > 1).height
    rows(held, CORRECTED_ON)
    again = pl.read_csv(held.folder / "data" / "days" / f"{BAD_DAY}.csv")
    assert (24, 0) == (again.height, again.filter(pl.col("temp") > 1).height)
    with_offer = rows(held, OFFER_BEGINS)
    held.offer_ends = OFFER_BEGINS
    without = rows(held, OFFER_BEGINS)

    for name in ("casual", "registered"):
        assert [round(it * FACTOR) for it in without[name]] == with_offer[name].to_list()
    assert (with_offer["casual"] + with_offer["registered"]).to_list() == with_offer["cnt"].to_list()


def test_news_are_said_once_and_a_promotion_ends_the_offer_some_days_later(tmp_path: Path) -> None:
    lake, day, seen = Lake(str(tmp_path)), date(2011, 7, 20), Seen(entries=1)
    log = PromotionLog(lake, MODEL)
    for number, version in ((1, "a" * 32), (2, "b" * 32)):
        log.append(promotion(number, champion=version, model=MODEL), number=number)
    requested = Retraining(
        model=MODEL, as_of=day, number=1, cause="drift", sentence="It drifts.", champion="a" * 32,
        requested_at=datetime(2011, 7, 21, tzinfo=UTC), requested_by="drift",
    )  # fmt: skip
    assert RetrainingLog(lake, MODEL).claim(requested)

    assert [
        "retraining requested by drift: It drifts.", f"promote {'b' * 12} by gate (entry 2)",
    ] == [*seen.news(lake, day)]  # fmt: skip
    assert [] == [*seen.news(lake, day)]
    assert offer_end(None) is None
    assert date(2011, 7, 21 + KEPT_AFTER) == offer_end(seen.promoted_on)
