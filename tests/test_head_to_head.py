"""The page that compares a random-split leaderboard with a split by time has the table of its command."""

from benchmarks.head_to_head import COLUMNS, HEAD, LATER, PAGE, Course, cars, leaderboard, table_rows
from benchmarks.page_table import table_of


def test_the_page_has_the_table_of_the_command() -> None:
    like = [*table_rows([(Course(1.0, (1.0,) * len(LATER)),) * len(COLUMNS)])]
    head, _, *rows = table_of(PAGE)

    assert [*HEAD] == head
    assert [row[0] for row in like] == [row[0] for row in rows]


def test_the_table_has_means_and_the_distance_from_the_promise() -> None:
    one, other = (Course(2.0, (3.0, 1.0, 1.0, 1.0)), Course(4.0, (4.0, 2.0, 2.0, 2.0)))

    rows = [*table_rows([(one, other, one), (other, one, one)])]

    assert ["promised", "3.00", "3.00", "2.00"] == rows[0]
    assert ["first 30 days, against the promise", "+25%", "+25%", "+50%"] == rows[-1]


def test_what_random_folds_promise_does_not_come() -> None:
    course = leaderboard(cars(0, rows=4_000), configurations=1)

    assert course.later[0] > 1.2 * course.promised
