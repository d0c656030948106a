"""Which runs materialize what is out of date."""

import dagster as dg
import pytest

from ml_assets.orchestration.planner import runs_of

X, Y, AIRPORTS, CARD = (dg.AssetKey(name.split("/")) for name in ("tables/x", "tables/y", "tables/airports", "m/card"))
DAYS = tuple(f"2013-01-0{n}" for n in range(1, 7))


@pytest.mark.parametrize(("is_bridging", "expected"), [(True, [DAYS[:6]]), (False, [DAYS[:2], DAYS[4:6]])])
def test_only_a_bridging_run_includes_days_on_which_nothing_is_out_of_date(
    expected: list[tuple[str, ...]], *, is_bridging: bool
) -> None:
    due = {X: [*DAYS[:2], *DAYS[4:6]]}

    assert [((X,), days) for days in expected] == [*runs_of(due, lambda *_: True, is_bridging=is_bridging)]


def test_a_run_ends_before_a_day_that_one_of_its_assets_must_not_be_rebuilt_for() -> None:
    due = {X: [DAYS[0]], Y: [*DAYS[:3]]}

    assert [((X, Y), DAYS[:1]), ((Y,), DAYS[1:3])] == [*runs_of(due, lambda *_: False, is_bridging=True)]


def test_a_table_without_days_is_built_by_the_first_run_and_a_card_by_the_last() -> None:
    due = {AIRPORTS: [""], X: [DAYS[0], DAYS[2]], CARD: [""]}

    runs = [*runs_of(due, lambda *_: False, is_bridging=True)]

    assert [((AIRPORTS, X), DAYS[:1]), ((X, CARD), DAYS[2:3])] == runs
    assert [((AIRPORTS, CARD), ())] == [*runs_of({AIRPORTS: [""], CARD: [""]}, lambda *_: True)]
