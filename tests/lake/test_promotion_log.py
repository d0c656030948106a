import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from ml_assets.contracts.decisions import Promotion
from ml_assets.lake.errors import CorruptArtifactError, FormatVersionError, LakeError, PromotionConflictError
from ml_assets.lake.promotion_log import LAST_NUMBER, PromotionLog, models_with_log, retry_on_conflict
from ml_assets.lake.sealing import seal
from ml_assets.lake.store import Lake
from tests.builders import frame, of_newer_format, promotion, put

PROMOTERS = 50


def log(lake: Lake, model: str = "flight_delay") -> PromotionLog:
    return PromotionLog(lake, model)


def entry(number: int, /, **changes: Any) -> Promotion:
    return promotion(number).model_copy(update=changes)


def write(lake: Lake, name: str, data: bytes) -> None:
    """Put an object among the entries, past the log."""
    lake.write(lake.path("promotions", "flight_delay", name), lambda file: file.write(data))


def test_an_empty_log_has_no_last_entry(lake: Lake) -> None:
    assert None is log(lake).last()
    assert [] == log(lake).entries()


def test_entries_are_read_in_the_order_they_were_added(lake: Lake) -> None:
    added = [log(lake).append(promotion(n, champion="abc"[n - 1] * 32), number=n) for n in (1, 2, 3)]

    assert added == log(lake).entries()
    assert added[-1] == log(lake).last()


@pytest.mark.parametrize("name", ["", "..", "../flight_delay", "flight/delay", "/etc", "Flight", "a" * 64, "a\n"])
def test_the_log_of_an_invalid_model_name_is_not_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        LakeError, match="is not a valid model name, so it has no promotion log; expected up to 63 of a-z"
    ):
        log(Lake(str(tmp_path)), name)


# ---------------------------------------------------------------- two at once


def test_a_number_is_claimed_once_and_the_loser_learns_who_has_it(lake: Lake) -> None:
    first = log(lake).append(entry(1, decided_by="bob", reasons=("it is late", "and more")), number=1)

    with pytest.raises(PromotionConflictError) as caught:
        log(lake).append(promotion(1, champion="b" * 32), number=1)

    assert str(caught.value) == (
        "entry 1 of the promotion log of flight_delay was written by bob meanwhile (promote aaaaaaaaaaaa: it is late); "
        f"the current champion is {'a' * 32}. Nothing was changed: check the log and decide again."
    )
    assert [first] == log(lake).entries()


def test_a_late_loser_learns_how_many_entries_followed_and_which_version_is_champion(lake: Lake) -> None:
    for number, version in ((1, "a"), (2, "b"), (3, "c")):
        log(lake).append(promotion(number, champion=version * 32), number=number)

    with pytest.raises(
        PromotionConflictError, match=rf"\(promote b{{12}}: .*\), and 1 more since; the current champion is {'c' * 32}"
    ):
        log(lake).append(promotion(2, champion="d" * 32), number=2)


def test_of_fifty_concurrent_promotions_one_wins_each_number_and_the_others_learn_the_winner(lake: Lake) -> None:
    rounds, start = 10 if lake.protocol == "file" else 2, Barrier(PROMOTERS, timeout=60)

    def promoter(name: int) -> list[int | str]:
        own = log(Lake(lake.url, lake.options))
        results: list[int | str] = []
        for _ in range(rounds):
            start.wait()
            last = own.last()
            number = 1 if last is None else last.number + 1
            start.wait()  # all have read the same log
            try:
                own.append(entry(number, decided_by=f"<{name}>", champion=f"{name:032x}"), number=number)
            except PromotionConflictError as error:
                results.append(str(error))
            else:
                results.append(number)
        return results

    with ThreadPoolExecutor(PROMOTERS) as pool:
        results = [*pool.map(promoter, range(PROMOTERS))]

    entries = log(lake).entries()
    assert [*range(1, rounds + 1)] == [it.number for it in entries]
    for number, it in enumerate(entries, start=1):
        answers = [one[number - 1] for one in results]
        winners = [name for name, answer in enumerate(answers) if answer == number]
        assert [it.decided_by] == [f"<{name}>" for name in winners]
        losers = [answer for answer in answers if answer != number]
        assert PROMOTERS - 1 == len(losers)
        assert all(f"entry {number} of" in str(it_) and f"by {it.decided_by} meanwhile" in str(it_) for it_ in losers)


# ---------------------------------------------------------------- a damaged log


def digest(lake: Lake, number: int) -> str:
    """Return the last member of an entry's text, which is its digest."""
    return str(json.loads(lake.read(lake.path("promotions", "flight_delay", f"{number:06d}.json")))["digest"])


def made_under(lake: Lake, number: int, *, asset: str = "predictions", of: str | None = None) -> None:
    """Put an artifact whose manifest names the newest entry of its time."""
    head = {"number": number, "digest": of or digest(lake, number)}
    put(
        lake,
        frame(number),
        asset=f"flight_delay/{asset}",
        partition="2013-01-01",
        parameters={"promotion_log_entry": head},
    )


def filled(lake: Lake) -> Lake:
    """Give a lake three entries, the last of which predictions name."""
    for number in (1, 2, 3):
        log(lake).append(promotion(number, champion="abc"[number - 1] * 32), number=number)
    made_under(lake, 3)
    return lake


def test_each_entry_carries_the_digest_of_the_one_before_and_ends_with_its_own(lake: Lake) -> None:
    entries = log(filled(lake)).entries()

    assert [None, digest(lake, 1), digest(lake, 2)] == [it.previous_digest for it in entries]
    text = lake.read(lake.path("promotions", "flight_delay", "000003.json"))
    body = text[: text.rindex(b',\n "digest"')]
    assert hashlib.blake2b(body, digest_size=16).hexdigest() == digest(lake, 3)


def test_an_entry_of_a_newer_release_is_no_damage(lake: Lake) -> None:
    path = filled(lake).path("promotions", "flight_delay", "000003.json")
    write(lake, "000003.json", of_newer_format(lake.read(path)))

    with pytest.raises(FormatVersionError, match=r"000003\.json is an entry of the promotion log of format version 2"):
        log(lake).verified()


def test_an_undamaged_log_is_verified(lake: Lake) -> None:
    found = log(filled(lake)).verified()

    assert ([1, 2, 3], 3, digest(lake, 3)) == (
        [it.number for it in found.entries], found.head and found.head.number, found.head and found.head.digest
    )  # fmt: skip


def resealed(number: int, /, **changes: Any) -> Callable[[Lake], None]:
    """Return an edit with a valid seal."""

    def edit(lake: Lake) -> None:
        write(lake, f"{number:06d}.json", seal(log(lake).entries()[number - 1].model_copy(update=changes)))

    return edit


def edited(lake: Lake) -> None:
    path = lake.path("promotions", "flight_delay", "000002.json")
    write(lake, "000002.json", lake.read(path).replace(b"it is better", b"it was asked"))


def deleted(number: int) -> Callable[[Lake], None]:
    return lambda lake: lake.remove(lake.path("promotions", "flight_delay", f"{number:06d}.json"))


def of_another_lake(number: int) -> Callable[[Lake], None]:
    return resealed(number, decided_by="somebody else")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edited, r"000002\.json is not an entry .* it ends with the digest \w{32}, but its text has \w{32}"),
        (lambda lake: write(lake, "000002.json", b'{"number"'), r"000002\.json is not an entry .* 9 bytes do not end"),
        (lambda lake: write(lake, "000003.json", b""), r"000003\.json is not an entry .* its 0 bytes do not end with"),
        (deleted(2), r"000002\.json is missing: the log goes on to entry 3"),
        (deleted(1), r"000001\.json is missing: the log goes on to entry 3"),
        (resealed(2, champion="d" * 32), r"000003\.json follows .* digest \w{32}, but entry 2 has \w{32}: one of them"),
        (of_another_lake(1), r"000002\.json follows an entry with the digest \w{32}, but entry 1 has \w{32}"),
        (resealed(1, previous_digest="a" * 32), r"000001\.json follows an entry with the digest a{32}; expected none"),
        (lambda lake: write(lake, "notes.txt", b"hello"), r"notes\.txt does not belong there; expected"),
        (lambda lake: write(lake, "000000.json", b"{}"), r"000000\.json does not belong there"),
        (resealed(2, number=1), r"000002\.json is the record of promotions/flight_delay/000001\.json;"),
        (resealed(2, model="other"), r"is the record of promotions/other/000002\.json"),
        (resealed(2, decided_at=datetime(2026, 1, 1)), "without a time zone; expected UTC"),  # noqa: DTZ001 - see there
        (lambda lake: write(lake, "000001.json", b" " * (2**20 + 1)), r"000001\.json has 1,048,577 bytes; expected at"),
    ],
)  # fmt: skip
def test_a_damaged_log_is_neither_read_nor_decided_on_and_the_entry_is_named(
    lake: Lake, damage: Callable[[Lake], None], message: str
) -> None:
    damage(filled(lake))

    for read in (log(lake).entries, log(lake).last, log(lake).verified):
        with pytest.raises(CorruptArtifactError, match=message) as caught:
            read()
        assert str(caught.value).startswith("the promotion log of flight_delay is damaged")
        assert "Restore what was written in " in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (deleted(3), r"000003\.json is missing: .*/predictions/2013-01-01/\w+/manifest\S+ was .* ends at entry 2"),
        (of_another_lake(3), r"000003\.json was replaced: it has the digest \w{32}, but .*manifest\S+ names \w{32}"),
        (lambda lake: [deleted(n)(lake) for n in (1, 2, 3)], r"000003\.json is missing: .* the log ends at entry 0"),
    ],
    ids=["the newest entry cut off", "the newest entry replaced", "the whole log gone"],
)  # fmt: skip
@pytest.mark.parametrize("asset", ["predictions", "champion", "evaluation"])
def test_a_log_without_an_entry_that_a_manifest_names_is_not_extended(
    lake: Lake, damage: Callable[[Lake], None], message: str, asset: str
) -> None:
    filled(lake)
    lake.remove(next(lake.path(it) for it in lake.tree(lake.url) if "/manifest-" in it))
    made_under(lake, 3, asset=asset)
    damage(lake)

    with pytest.raises(CorruptArtifactError, match=message.replace("predictions", asset)):
        log(lake).verified()


def test_a_log_that_grew_after_the_predictions_is_intact(lake: Lake) -> None:
    log(filled(lake)).append(promotion(4), number=4)

    assert 4 == len(log(lake).verified().entries)


def test_every_problem_of_a_log_is_listed(lake: Lake) -> None:
    edited(filled(lake))
    deleted(1)(lake)
    made_under(lake, 9, of="f" * 32)

    found = log(lake).inspect(manifests=None)

    assert [3] == [it.number for it in found.entries]
    for problem, words in zip(
        found.problems, ("000001.json is missing", "000002.json is not an entry", "000009.json is missing"), strict=True
    ):
        assert words in problem


def test_an_entry_is_not_added_to_one_that_is_damaged(lake: Lake) -> None:
    write(filled(lake), "000003.json", b"")

    with pytest.raises(CorruptArtifactError, match=r"000003\.json is not an entry"):
        log(lake).append(promotion(4), number=4)
    assert ["000001.json", "000002.json", "000003.json"] == lake.names(lake.path("promotions", "flight_delay"))


def test_each_model_has_a_log_of_its_own_which_is_found_among_other_objects(lake: Lake) -> None:
    log(lake).append(promotion(1), number=1)
    lake.create(lake.path("promotions", "README"), b"hello")
    assert [] == log(lake, "another").entries()
    log(lake, "another").append(promotion(1, model="another"), number=1)

    assert ["another", "flight_delay"] == models_with_log(lake)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"number": 2}, "flight_delay's entry 2 cannot be entry 1 of flight_delay's log"),
        ({"model": "flight_class"}, "flight_class's entry 1 cannot be entry 1 of flight_delay's log"),
        ({"decided_at": datetime(2026, 1, 1)}, "without a time zone; expected UTC"),  # noqa: DTZ001 - that is the point
    ],
)
def test_an_entry_of_another_place_is_not_written(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    lake = Lake(str(tmp_path))

    with pytest.raises(LakeError, match=problem):
        log(lake).append(entry(1, **changes), number=1)
    assert [] == log(lake).entries()


def test_an_entry_is_not_visible_while_it_is_written(lake: Lake) -> None:
    first = log(lake).append(promotion(1), number=1)
    write(lake, "000002.json.1f2e3d4c.part", b'{"numb')

    assert [first] == log(lake).entries()
    assert first == log(lake).last()


@pytest.mark.parametrize("number", [-1, 0, LAST_NUMBER + 1])
def test_numbers_that_would_not_sort_are_refused(tmp_path: Path, number: int) -> None:
    lake = Lake(str(tmp_path))

    with pytest.raises(LakeError, match=rf"accepts entries 1 to 999999, but this one is {number}\. Find out"):
        log(lake).append(promotion(number), number=number)
    assert [] == log(lake).entries()


# ---------------------------------------------------------------- champions over time


def test_the_log_as_of_a_moment_ends_with_the_last_decision_before_it(lake: Lake) -> None:
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


def test_each_concurrent_decision_is_repeated_until_it_has_its_own_number(lake: Lake) -> None:
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


# ---------------------------------------------------------------- a new log in place of a damaged one


def test_a_new_log_gives_up_exactly_the_entries_of_the_damaged_one(lake: Lake) -> None:
    edited(filled(lake))

    folder, named = log(lake).set_aside(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    log(lake).append(entry(1, replaced_entries=named), number=1)

    assert 1 == len(log(lake).verified().entries)
    assert lake.path("set_aside", "promotions", "flight_delay", "20260102T030405Z") == folder
    assert [f"00000{n}.json" for n in (1, 2, 3)] == lake.names(folder)
    made_under(lake, 2, of="f" * 32)
    with pytest.raises(CorruptArtifactError, match=r"000002\.json is missing"):
        log(lake).verified()


@pytest.mark.parametrize("moves", [0, 1, 2, 3])
def test_setting_a_log_aside_can_be_repeated_after_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    lake = Lake(str(tmp_path))
    deleted(3)(filled(lake))
    log(lake).append(promotion(3), number=3)
    left, move = [moves], Lake.move

    def killed(self: Lake, source: str, target: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        move(self, source, target)

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "move", killed)
        with pytest.raises(KeyboardInterrupt) if moves < 3 else nullcontext():
            log(lake).set_aside(datetime(2026, 1, 2, tzinfo=UTC))
    with pytest.raises(CorruptArtifactError, match="is damaged"):
        log(lake).verified()

    _, named = log(lake).set_aside(datetime(2026, 1, 3, tzinfo=UTC))
    log(lake).append(entry(1, replaced_entries=named), number=1)

    assert 1 == len(log(lake).verified().entries)
