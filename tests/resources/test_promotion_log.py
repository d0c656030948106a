import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ml_assets.contracts.artifacts import Promotion
from resources.errors import CorruptArtifactError, LakeError, PromotionConflictError
from resources.lake import Lake
from resources.promotion_log import PromotionLog
from tests.builders import promotion


def log(lake: Lake, model: str = "flight_delay") -> PromotionLog[Promotion]:
    return PromotionLog(lake, model, Promotion)


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "folder":
        return Lake(str(tmp_path))
    make: Callable[[str], Mapping[str, Any]] = request.getfixturevalue("s3")
    bucket = f"log-{os.getpid()}-{abs(hash(request.node.name)) % 10**9}"
    return Lake(f"s3://{bucket}/lake", make(bucket))


def test_an_empty_log_has_no_last_entry(lake: Lake) -> None:
    assert None is log(lake).last()
    assert [] == log(lake).entries()


def test_entries_come_back_in_the_order_they_were_added(lake: Lake) -> None:
    added = [log(lake).append(promotion(n, champion="abc"[n - 1] * 32), number=n) for n in (1, 2, 3)]

    assert added == log(lake).entries()
    assert added[-1] == log(lake).last()


def test_each_model_has_a_log_of_its_own(lake: Lake) -> None:
    log(lake).append(promotion(1), number=1)

    assert [] == log(lake, "flight_minutes").entries()


def test_a_number_is_given_once_and_the_first_entry_stays(lake: Lake) -> None:
    first = log(lake).append(promotion(1, champion="a" * 32), number=1)

    with pytest.raises(
        PromotionConflictError, match="entry 1 of the promotion log of flight_delay was written by some"
    ):
        log(lake).append(promotion(1, champion="b" * 32), number=1)

    assert [first] == log(lake).entries()


def test_of_appenders_at_the_same_time_one_wins_each_number(lake: Lake) -> None:
    def attempt(name: int) -> list[int]:
        won = []
        for number in range(1, 6):
            try:
                log(lake).append(promotion(number, champion=f"{name:032x}"), number=number)
            except PromotionConflictError:
                continue
            won.append(number)
        return won

    with ThreadPoolExecutor(6) as pool:
        won = [*pool.map(attempt, range(6))]

    assert [1, 2, 3, 4, 5] == sorted(number for numbers in won for number in numbers)
    assert [1, 2, 3, 4, 5] == [entry.number for entry in log(lake).entries()]
    owners = {number: name for name, numbers in enumerate(won) for number in numbers}
    assert [f"{owners[number]:032x}" for number in range(1, 6)] == [entry.champion for entry in log(lake).entries()]


def test_a_log_with_a_gap_is_not_read(lake: Lake) -> None:
    for number in (1, 3):
        log(lake).append(promotion(number), number=number)

    with pytest.raises(CorruptArtifactError, match=r"has a gap or a stranger at 00000[23]\.json"):
        log(lake).entries()


def test_a_newest_entry_after_a_gap_does_not_serve(lake: Lake) -> None:
    for number in (1, 3):
        log(lake).append(promotion(number), number=number)

    with pytest.raises(LakeError, match="promotion"):
        log(lake).last()


def test_an_edited_entry_is_named(lake: Lake) -> None:
    log(lake).append(promotion(1), number=1)
    path = lake.path("promotions", "flight_delay", "000001.json")
    lake.write(path, lambda file: file.write(b'{"number": 1}') and None)

    with pytest.raises(CorruptArtifactError, match=r"000001\.json is not an entry of the promotion log"):
        log(lake).last()


def test_a_stranger_in_the_log_is_named(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    log(lake).append(promotion(1), number=1)
    (tmp_path / "promotions" / "flight_delay" / "notes.txt").write_text("hello")

    with pytest.raises(CorruptArtifactError, match=r"has a gap or a stranger at (notes\.txt|000002\.json)"):
        log(lake).entries()


def test_a_log_that_cannot_be_written_says_where() -> None:
    with pytest.raises(LakeError, match=r"cannot write /proc/lake/promotions/flight_delay/000001\.json"):
        log(Lake("/proc/lake")).append(promotion(1), number=1)
