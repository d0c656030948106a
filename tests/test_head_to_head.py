"""The page that compares a random-split leaderboard with a split by time has the table of its command."""

from benchmarks.head_to_head import COLUMNS, HEAD, LATER, PAGE, TABLE, Course, cars, leaderboard, markdown


def test_the_page_has_the_table_of_the_command() -> None:
    found = TABLE.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    like = [*markdown([(Course(1.0, (1.0,) * len(LATER)),) * len(COLUMNS)])]

    assert [line.split("|")[1] for line in like] == [line.split("|")[1] for line in found[0].splitlines()]
    assert " | ".join(HEAD) in found[0]


def test_the_table_has_means_and_the_distance_from_the_promise() -> None:
    one, other = (Course(2.0, (3.0, 1.0, 1.0, 1.0)), Course(4.0, (4.0, 2.0, 2.0, 2.0)))

    rows = [
        [it.strip() for it in line.strip("|").split("|")] for line in markdown([(one, other, one), (other, one, one)])
    ]

    assert ["promised", "3.00", "3.00", "2.00"] == rows[2]
    assert ["first 30 days, against the promise", "+25%", "+25%", "+50%"] == rows[-1]


def test_what_random_folds_promise_does_not_come() -> None:
    course = leaderboard(cars(0, rows=4_000), configurations=1)

    assert course.later[0] > 1.2 * course.promised
