"""Which days a reader lacks, and how days are named in sentences."""

from ml_assets.lake.days import Gaps, days_by_asset, gaps_of, in_rows, merge_days, span_of, split_into_runs

READS = {"tables/x": ["2013-01-03", "2013-01-04", "2013-01-05"], "raw/shops": [""]}


def gaps(*there: str, shops: bool = True, allow_gaps: bool = False) -> Gaps:
    found = {"tables/x": there, "raw/shops": [""] if shops else []}
    return gaps_of("2013-01-05", READS, found, allow_gaps=allow_gaps)


def test_a_day_that_looks_back_lacks_every_day_that_is_not_there() -> None:
    assert Gaps({}, {}) == gaps("2013-01-03", "2013-01-04", "2013-01-05")
    assert Gaps({"tables/x": ("2013-01-03", "2013-01-04")}, {}) == gaps("2013-01-05")
    assert Gaps({"tables/x": ("2013-01-04",), "raw/shops": ("",)}, {}) == gaps("2013-01-03", "2013-01-05", shops=False)


def test_an_allowed_gap_is_a_day_before_its_own_and_nothing_else() -> None:
    assert Gaps({}, {"tables/x": ("2013-01-04",)}) == gaps("2013-01-03", "2013-01-05", allow_gaps=True)
    assert Gaps({"tables/x": ("2013-01-05",), "raw/shops": ("",)}, {"tables/x": ("2013-01-03",)}) == gaps(
        "2013-01-04", shops=False, allow_gaps=True
    )


def test_a_day_after_the_newest_may_still_land() -> None:
    assert Gaps({}, {}) == gaps_of("2013-01-05", {"m/labels": ["2013-01-05", "2013-01-06"]},
                                   {"m/labels": ["2013-01-05"]}, allow_gaps=False)  # fmt: skip


def test_days_are_named_as_rows_of_consecutive_days() -> None:
    days = ("2013-01-30", "2013-01-31", "2013-02-01", "2013-02-03")

    assert "2013-01-30 to 2013-02-01" == span_of(days[:3])
    assert [days[:3], days[3:]] == in_rows(days)
    assert [days[:2], days[2:3], days[3:]] == in_rows(days, most=2)
    assert "raw/a of 2013-01-30 to 2013-02-01 and 2013-02-03, raw/b" == days_by_asset({"raw/a": days, "raw/b": [""]})


def test_a_run_covers_days_that_are_due_or_may_be_materialized_again_for_each_of_its_assets() -> None:
    days = [f"2013-01-0{n}" for n in range(1, 8)]

    def runs(may: str = "", **due: str) -> list[tuple[str, str]]:
        wanted = {name: {days[int(n) - 1] for n in its} for name, its in due.items()}
        allowed = {f"{it[0]} {days[int(n) - 1]}" for it in may.split() for n in it[1:]}
        found = split_into_runs(days, wanted, lambda key, day: f"{key} {day}" in allowed)
        return [("".join(assets), "".join(str(days.index(day) + 1) for day in its)) for assets, its in found]

    assert [("xz", "123")] == runs(x="123", z="123")
    assert [("x", "12"), ("xz", "345")] == runs(
        x="12345", z="345"
    )  # z looks back, and 1 and 2 of it may lack something
    assert [("xz", "12345")] == runs("z12", x="12345", z="345")
    assert [("x", "1"), ("x", "3")] == runs(x="13")
    assert [("x", "123")] == runs("x2", x="13")
    assert [("x", "1"), ("z", "4567")] == runs("x2 x3 z5 z6", x="1", z="47")
    assert [] == runs(x="")


def test_days_missing_for_several_assets_are_listed_once_and_in_order() -> None:
    found = merge_days([{"b": ["2013-01-02"], "a": ["2013-01-01"]}, {"b": ["2013-01-01", "2013-01-02"]}, {"c": []}])

    assert {"a": ("2013-01-01",), "b": ("2013-01-01", "2013-01-02")} == found
    assert ["a", "b"] == [*found]
