import pytest

from ml_assets.contracts.yaml_lines import compose, line_of, line_of_first, twice

TEXT = """\
models:
  - name: name
    columns:
      - {description: A column by its type., name: items}
      - name: type
        data_tests:
          - unique
          - in_range: {minimum: 1}
          - name: seldom_missing
            test_name: not_null
"""


@pytest.mark.parametrize(
    ("loc", "line"),
    [
        (("models", "name"), 2),
        (("models", 0, "name"), 2),
        (("models", "name", "columns", "type"), 5),
        (("models", "name", "columns", "description"), 4),
        (("models", "name", "columns", "type", "data_tests", "unique"), 7),
        (("models", "name", "columns", "type", "data_tests", "in_range", "minimum"), 8),
        (("models", "name", "columns", "type", "data_tests", "not_null"), 9),
        (("models", "name", "columns", "type", "meta"), 5),
        (("models", "name", "columns", "type", "data_tests", 9), 6),
        (("sources",), 1),
    ],
)
def test_the_line_is_that_of_the_deepest_part_that_stands_there(loc: tuple[int | str, ...], line: int) -> None:
    assert line == line_of(compose(TEXT), loc)


def test_of_several_paths_the_deepest_counts() -> None:
    start = ("models", "name", "columns")

    assert 7 == line_of_first(compose(TEXT), [(*start, "type", "tests"), (*start, "type", "data_tests", "unique")])


def test_an_empty_text_has_one_line() -> None:
    assert 1 == line_of(compose(""), ("models",))


def test_fields_given_twice_are_found_at_every_depth() -> None:
    assert [(2, "b"), (3, "a")] == [*twice(compose("x: [{a: 1,\n b: 2, b: 3,\n a: 2}]"))]
