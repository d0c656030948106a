"""Student's t distribution. SciPy is imported when it is used, because that takes a third of a second."""

from __future__ import annotations


def student_quantile(level: float, degrees: int) -> float:
    """Return a quantile of Student's t, at a level between 0 and 1."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, level))


def student_probability(value: float, degrees: int) -> float:
    """Return the probability of a value this low or lower under Student's t."""
    from scipy.special import stdtr

    return float(stdtr(degrees, value))
