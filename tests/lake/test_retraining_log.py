"""The retraining log: a record exists once, with any number of writers, and matches its name."""

import threading
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from ml_assets.contracts.decisions import Retraining
from ml_assets.lake.errors import CorruptArtifactError, LakeError
from ml_assets.lake.retraining_log import RetrainingLog
from ml_assets.lake.sealing import seal
from ml_assets.lake.store import Lake
from tests.builders import overwrite

DAY = date(2013, 10, 31)


def record(day: date = DAY, number: int = 1, by: str = "drift") -> Retraining:
    return Retraining(
        model="m", as_of=day, number=number, cause="drift", sentence="It has drifted.", champion="a" * 32,
        requested_at=datetime(2026, 1, 1, tzinfo=UTC), requested_by=by,
    )  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> RetrainingLog:
    return RetrainingLog(Lake(str(tmp_path)), "m")


def test_the_newest_records_are_read_by_day(log: RetrainingLog) -> None:
    there = [record(date(2013, 9, 30)), record(), record(number=2), record(date(2013, 11, 1))]
    for one in reversed(there):
        assert log.claim(one)

    assert there == log.newest(9)
    assert there[2:] == log.newest(2)


def test_a_day_and_number_can_be_claimed_once(log: RetrainingLog) -> None:
    assert log.claim(record())
    assert not log.claim(record(by="performance"))
    assert ["drift"] == [one.requested_by for one in log.newest(9)]


def test_of_many_that_claim_at_once_one_wins(log: RetrainingLog) -> None:
    together, won = threading.Barrier(8), []

    def claim(by: str) -> None:
        together.wait()
        won.extend([by] if log.claim(record(by=by)) else [])

    threads = [threading.Thread(target=claim, args=[f"sensor {n}"]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert won == [one.requested_by for one in log.newest(9)]
    assert 1 == len(won)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "is not the record of a retraining as it was written: it was cut off or edited"),
        (seal(record(number=2)), "is the record of retrainings/m/2013-10-31.02.json; move it back there"),
    ],
)
def test_an_invalid_record_is_named(log: RetrainingLog, data: bytes, message: str) -> None:
    log.claim(record())
    overwrite(log.lake, log.lake.path("retrainings", "m", "2013-10-31.01.json"), data)

    with pytest.raises(CorruptArtifactError, match=f"2013-10-31.01.json {message}"):
        log.newest(1)


def test_other_files_are_left_alone(log: RetrainingLog) -> None:
    log.lake.create(log.lake.path("retrainings", "m", "notes.txt"), b"so")

    assert [] == log.newest(5)


def test_a_name_that_could_be_a_path_has_no_log(log: RetrainingLog) -> None:
    with pytest.raises(LakeError, match=r"'\.\./m' is not a valid model name, so it has no retraining log"):
        RetrainingLog(log.lake, "../m")
