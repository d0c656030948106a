import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.logic.evaluation.student import student_probability, student_quantile


@pytest.mark.parametrize(
    ("level", "degrees", "expected"), [(0.95, 9, 1.8331), (0.95, 29, 1.6991), (0.975, 60, 2.0003), (0.5, 9, 0.0)]
)
def test_students_quantiles_are_those_of_the_tables(level: float, degrees: int, expected: float) -> None:
    assert pytest.approx(expected, abs=5e-5) == student_quantile(level, degrees)


@given(st.floats(0.0005, 0.9995))
def test_students_quantiles_of_one_two_and_four_degrees_are_those_that_have_a_closed_form(level: float) -> None:
    a = 4 * level * (1 - level)
    q = math.cos(math.acos(math.sqrt(a)) / 3) / math.sqrt(a)
    four = math.copysign(2 * math.sqrt(max(q - 1, 0.0)), level - 0.5)

    assert math.tan(math.pi * (level - 0.5)) == pytest.approx(student_quantile(level, 1), rel=1e-6, abs=1e-6)
    assert 2 * (level - 0.5) * math.sqrt(2 / a) == pytest.approx(student_quantile(level, 2), rel=1e-6, abs=1e-6)
    assert four == pytest.approx(student_quantile(level, 4), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("degrees", "expected"), [(3, 3.481909), (5, 2.756509), (6, 2.612242), (7, 2.516752), (8, 2.448985), (41, 2.12117)]
)
def test_students_quantiles_of_the_watch_are_exact_for_the_few_days_that_it_looks_at(
    degrees: int, expected: float
) -> None:
    assert pytest.approx(expected, abs=1e-6) == student_quantile(0.98, degrees)


@given(st.floats(0.5, 0.9995), st.integers(1, 400))
def test_students_quantiles_fall_with_the_degrees_and_mirror_at_the_middle(level: float, degrees: int) -> None:
    found = student_quantile(level, degrees)

    assert student_quantile(level, degrees + 1) <= found + 1e-7 * found
    assert -found == pytest.approx(student_quantile(1 - level, degrees), rel=1e-6, abs=1e-9)


@given(st.floats(0.0005, 0.9995), st.integers(1, 200))
def test_the_probability_of_a_quantile_is_its_level(level: float, degrees: int) -> None:
    assert level == pytest.approx(student_probability(student_quantile(level, degrees), degrees), abs=1e-9)


@given(st.floats(-1e6, 1e6))
def test_probabilities_of_one_and_two_degrees_are_those_that_have_a_closed_form(value: float) -> None:
    assert 0.5 + math.atan(value) / math.pi == pytest.approx(student_probability(value, 1), abs=1e-12)
    assert 0.5 + value / (2 * math.sqrt(2 + value * value)) == pytest.approx(student_probability(value, 2), abs=1e-12)


def test_an_infinite_value_is_certain() -> None:
    assert (0.0, 1.0) == (student_probability(-math.inf, 7), student_probability(math.inf, 7))
