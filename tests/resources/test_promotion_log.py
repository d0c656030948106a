import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from ml_assets.contracts.artifacts import Promotion
from resources.errors import CorruptArtifactError, LakeError, PromotionConflictError
from resources.lake import Lake
from resources.promotion_log import LAST_NUMBER, PromotionLog, retry_on_conflict
from tests.builders import promotion

PROMOTERS = 50


def log(lake: Lake, model: str = "flight_delay") -> PromotionLog[Promotion]:
    return PromotionLog(lake, model, Promotion)


def entry(number: int, /, **changes: Any) -> Promotion:
    return promotion(number).model_copy(update=changes)


def write(lake: Lake, name: str, data: bytes) -> None:
    """Put an object among the entries, past the log."""
    lake.write(lake.path("promotions", "flight_delay", name), lambda file: file.write(data) and None)


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


@pytest.mark.parametrize("name", ["", "..", "../flight_delay", "flight/delay", "/etc", "Flight", "a" * 64, "a\n"])
def test_a_log_of_a_model_whose_name_is_none_is_not_looked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(LakeError, match="is not a model's name, so it has no promotion log; expected up to 63 of a-z"):
        log(Lake(str(tmp_path)), name)


# ---------------------------------------------------------------- two at once


def test_a_number_is_given_once_and_the_other_is_told_who_has_it(lake: Lake) -> None:
    first = log(lake).append(entry(1, decided_by="bob", reasons=("it is late", "and more")), number=1)

    with pytest.raises(PromotionConflictError) as caught:
        log(lake).append(promotion(1, champion="b" * 32), number=1)

    assert str(caught.value) == (
        "entry 1 of the promotion log of flight_delay was written by bob meanwhile (promote aaaaaaaaaaaa: it is late); "
        f"{'a' * 32} serves now. Nothing was changed: look at it and decide again."
    )
    assert [first] == log(lake).entries()


def test_who_lost_long_ago_is_told_how_much_was_decided_since_and_who_serves_now(lake: Lake) -> None:
    for number, version in ((1, "a"), (2, "b"), (3, "c")):
        log(lake).append(promotion(number, champion=version * 32), number=number)

    with pytest.raises(PromotionConflictError, match=rf"\(promote b{{12}}: .*\), and 1 more since; {'c' * 32} serves"):
        log(lake).append(promotion(2, champion="d" * 32), number=2)


def test_of_fifty_promoters_at_once_one_wins_each_number_and_the_others_are_told_by_whom(lake: Lake) -> None:
    rounds, start = 10 if lake.protocol == "file" else 2, Barrier(PROMOTERS, timeout=60)

    def promoter(name: int) -> list[int | str]:
        own = log(Lake(lake.url, lake.options))
        told: list[int | str] = []
        for _ in range(rounds):
            start.wait()
            last = own.last()
            number = 1 if last is None else last.number + 1
            start.wait()  # all have read the same log
            try:
                own.append(entry(number, decided_by=f"<{name}>", champion=f"{name:032x}"), number=number)
            except PromotionConflictError as error:
                told.append(str(error))
            else:
                told.append(number)
        return told

    with ThreadPoolExecutor(PROMOTERS) as pool:
        told = [*pool.map(promoter, range(PROMOTERS))]

    entries = log(lake).entries()
    assert [*range(1, rounds + 1)] == [it.number for it in entries]
    for number, it in enumerate(entries, start=1):
        answers = [one[number - 1] for one in told]
        winners = [name for name, answer in enumerate(answers) if answer == number]
        assert [it.decided_by] == [f"<{name}>" for name in winners]
        losers = [answer for answer in answers if answer != number]
        assert PROMOTERS - 1 == len(losers)
        assert all(f"entry {number} of" in str(it_) and f"by {it.decided_by} meanwhile" in str(it_) for it_ in losers)


# ---------------------------------------------------------------- what does not belong there


def test_a_log_with_a_gap_is_not_read(lake: Lake) -> None:
    for number in (1, 3):
        log(lake).append(promotion(number), number=number)

    for read in (log(lake).entries, log(lake).last):
        with pytest.raises(
            CorruptArtifactError, match=r"promotion log of flight_delay has a gap or a stranger at 000002"
        ):
            read()


def test_an_entry_that_is_none_is_named(lake: Lake) -> None:
    write(lake, "000001.json", b'{"number": 1}')

    with pytest.raises(CorruptArtifactError, match=r"000001\.json is not an entry of the promotion log"):
        log(lake).last()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"number": 2}, "it is entry 2 of flight_delay; expected entry 1 of flight_delay"),
        ({"model": "flight_class"}, "it is entry 1 of flight_class; expected entry 1 of flight_delay"),
        ({"decided_at": datetime(2026, 1, 1)}, "without a time zone; expected UTC"),  # noqa: DTZ001 - that is the point
    ],
)
def test_an_entry_of_another_place_is_neither_read_nor_written(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    lake = Lake(str(tmp_path))
    with pytest.raises(LakeError, match=problem):
        log(lake).append(entry(1, **changes), number=1)
    assert [] == log(lake).entries()

    write(lake, "000001.json", entry(1, **changes).model_dump_json().encode())
    with pytest.raises(CorruptArtifactError, match=rf"000001\.json is not the entry that its name says: .*{problem}"):
        log(lake).last()


def test_a_stranger_in_the_log_is_named(lake: Lake) -> None:
    log(lake).append(promotion(1), number=1)
    write(lake, "notes.txt", b"hello")

    for read in (log(lake).entries, log(lake).last):
        with pytest.raises(
            CorruptArtifactError, match=r"a gap or a stranger at (notes\.txt|000002\.json); expected only"
        ):
            read()


def test_what_is_still_being_written_is_not_there_yet(lake: Lake) -> None:
    first = log(lake).append(promotion(1), number=1)
    write(lake, "000002.json.1f2e3d4c.part", b'{"numb')

    assert [first] == log(lake).entries()
    assert first == log(lake).last()


def test_an_entry_from_before_entries_had_an_id_is_read(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    write(lake, "000001.json", promotion(1).model_dump_json(exclude={"id"}).encode())

    assert promotion(1) == log(lake).last()


def test_an_entry_larger_than_any_can_be_is_not_read(lake: Lake) -> None:
    write(lake, "000001.json", promotion(1).model_dump_json().encode() + b" " * 2**20)

    with pytest.raises(LakeError, match=r"000001\.json"):
        log(lake).last()


@pytest.mark.parametrize("number", [-1, 0, LAST_NUMBER + 1])
def test_numbers_that_would_not_sort_are_refused(tmp_path: Path, number: int) -> None:
    lake = Lake(str(tmp_path))

    with pytest.raises(LakeError, match=rf"takes entries 1 to 999999, and this one is {number}\. Nobody decides"):
        log(lake).append(promotion(number), number=number)
    assert [] == log(lake).entries()


def test_a_log_that_cannot_be_written_says_where() -> None:
    with pytest.raises(LakeError, match=r"cannot write /proc/lake/promotions/flight_delay/000001\.json"):
        log(Lake("/proc/lake")).append(promotion(1), number=1)


# ---------------------------------------------------------------- who served when


def test_the_log_before_a_moment_ends_with_what_was_decided_before_it(lake: Lake) -> None:
    east = timezone(timedelta(hours=2))
    moments = [
        datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC),
        datetime(2026, 1, 3, 1, 30, tzinfo=east),  # still the second in UTC
        datetime(2026, 1, 5, 0, 0, tzinfo=UTC),
    ]
    for number, at in enumerate(moments, start=1):
        log(lake).append(entry(number, decided_at=at), number=number)

    counts = {day: len(log(lake).before(datetime(2026, 1, day + 1, tzinfo=UTC))) for day in range(1, 7)}
    assert {1: 1, 2: 2, 3: 2, 4: 2, 5: 3, 6: 3} == counts
    assert [] == log(lake).before(datetime(2026, 1, 1, tzinfo=UTC))


def test_a_clock_that_was_wrong_does_not_reorder_the_log(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for number, day in ((1, 1), (2, 9), (3, 2)):
        log(lake).append(entry(number, decided_at=datetime(2026, 1, day, tzinfo=UTC)), number=number)

    assert [1, 3, 3] == [len(log(lake).before(datetime(2026, 1, day, 12, tzinfo=UTC))) for day in (1, 2, 9)]


def test_of_decisions_at_once_each_is_made_anew_until_it_has_a_number_of_its_own(lake: Lake) -> None:
    start = Barrier(6, timeout=60)

    def decide(name: int) -> None:
        own = log(Lake(lake.url, lake.options))
        start.wait()

        def add() -> Promotion:
            number = len(own.entries()) + 1
            return own.append(entry(number, decided_by=f"<{name}>"), number=number)

        retry_on_conflict(add)

    with ThreadPoolExecutor(6) as pool:
        assert [None] * 6 == [*pool.map(decide, range(6))]

    assert [f"<{name}>" for name in range(6)] == sorted(it.decided_by for it in log(lake).entries())
