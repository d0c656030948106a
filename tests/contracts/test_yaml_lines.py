import pytest

from ml_assets.contracts.yaml_lines import YamlError, compose, line_of, line_of_first, load, problems

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
def test_the_line_is_that_of_the_deepest_existing_part(loc: tuple[int | str, ...], line: int) -> None:
    assert line == line_of(compose(TEXT), loc)


def test_of_several_paths_the_deepest_counts_and_an_empty_text_has_one_line() -> None:
    start = ("models", "name", "columns")

    assert 7 == line_of_first(compose(TEXT), [(*start, "type", "tests"), (*start, "type", "data_tests", "unique")])
    assert 1 == line_of(compose(""), start)


def reported(text: str) -> list[tuple[int, str]]:
    return [(it.line, it.problem) for it in problems(text)]


def test_fields_given_twice_are_found_at_every_depth_once() -> None:
    assert [(2, "b: is given twice; remove one"), (3, "a: is given twice; remove one")] == reported(
        "x: &x [{a: 1,\n b: 2, b: 3,\n a: 2}]\ny: *x"
    )


def test_dates_that_do_not_exist_are_found() -> None:
    assert [(2, "there is no date '2023-02-30': day is out of range for month")] == reported(
        "first: 2023-02-28\nlast: 2023-02-30\nas_text: '2023-02-30'"
    )


@pytest.mark.parametrize(("text", "line"), [("a: 1\n\tb: 2", 2), ("a: 1\nb: [1, 2\n", 3), ("a: 1\nb: \x07", 2)])
def test_invalid_yaml_is_reported_with_its_line(text: str, line: int) -> None:
    [(at, why)] = reported(text)

    assert line == at
    assert why.startswith("not YAML: ")


def test_a_tag_that_no_declaration_has_is_reported_with_its_line() -> None:
    with pytest.raises(YamlError, match=r"line 2: not YAML: could not determine a constructor for the tag"):
        load("a: 1\nb: !!python/name:os.system x")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[" * 100_000, 1, "it is nested deeper than 50 levels; reduce the nesting"),
        ("".join(" " * n + "a:\n" for n in range(60)), 51, "it is nested deeper than 50 levels; reduce the nesting"),
        ("a: " + "x" * 2**20, 1, "it has 1,048,579 characters; expected at most 1,048,576. Split the file"),
        ("b: 1\na: &a [*a]\n", 2, "an alias refers to a value that contains it; write the value out"),
        ("a: 1\nb: " + "9" * 5000, 2, "a number of 5,000 digits; expected a smaller one"),
    ],
)
def test_a_text_beyond_any_declaration_is_refused(text: str, line: int, problem: str) -> None:
    assert [(line, problem)] == reported(text)


@pytest.mark.parametrize("item", ["[{}]", "{{<<: [{}]}}"], ids=["lists", "merged maps"])
def test_aliases_that_multiply_are_refused_and_others_are_read(item: str) -> None:
    """A billion laughs: nine levels of nine aliases each."""
    laughs = ["a: &a {x: 1}"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        laughs.append(f"{name}: &{name} " + item.format(", ".join([f"*{before}"] * 9)))

    [(line, problem)] = reported("\n".join(laughs))

    assert (line > 1, problem) == (True, "it has more than 100,000 values, with aliases expanded; split it")
    assert [] == reported("a: &a {x: 1}\nb: [*a, *a]\n")
