import math

import pytest

from ml_assets.logic.evaluation.student import student_probability, student_quantile


@pytest.mark.parametrize(
    ("level", "degrees", "expected"),
    [(0.95, 9, 1.8331), (0.95, 29, 1.6991), (0.975, 60, 2.0003), (0.98, 3, 3.4819), (0.98, 41, 2.1212), (0.5, 9, 0.0)],
)
def test_quantiles_and_probabilities_are_those_of_the_tables(level: float, degrees: int, expected: float) -> None:
    assert pytest.approx(expected, abs=5e-5) == student_quantile(level, degrees)
    assert pytest.approx(level, abs=5e-6) == student_probability(expected, degrees)


def test_an_infinite_value_has_probability_zero_or_one() -> None:
    assert (0.0, 1.0) == (student_probability(-math.inf, 7), student_probability(math.inf, 7))
