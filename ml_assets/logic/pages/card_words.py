"""Format days, times, figures and comparisons for the card, and provide its template's filters.

Not here: formatting that plots use too (see `ml_assets.logic.plots.drawing`).
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Literal

from ml_assets.contracts.artifacts.evaluation import Comparison, EvaluationSummary, Interval
from ml_assets.contracts.artifacts.training import Task, TrainingSetSummary
from ml_assets.logic.plots.drawing import interval, metric_name, number, share

if TYPE_CHECKING:
    from jinja2 import Environment


def environment(task: Task) -> Environment:
    """Return a Jinja environment with escaping and the card's filters."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("ml_assets"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    jinja.filters |= {
        "number": number,
        "share": share,
        "interval": interval,
        "metric": metric_name,
        "target": share if task == "binary" else number,
        "fixed": _fixed,
        "figure": _figure,
        "days": days,
        "time": time,
        "short": _short,
        "codes": ", ".join,
        "plain": _plain,
        "bounds": _bounds,
        "signed": signed_interval,
        "signed_number": _signed_number,
        "signed_bounds": _signed_bounds,
        "tone": tone,
    }
    return jinja


def read_script() -> str:
    """Return the script that sorts the table of features."""
    return resources.files("ml_assets").joinpath("templates/card.js").read_text(encoding="utf-8")


def target_words(task: Task) -> str:
    """Return the title of the target's mean."""
    return "Positive" if task == "binary" else "Target mean"


def days(ends: tuple[date | None, date | None]) -> str:
    """Format a window by its first and last day; `–` if one of them is unknown."""
    first, last = ends
    if first is None or last is None:
        return "–"
    return str(first) if first == last else f"{first} to {last}"


def test_days(training_set: TrainingSetSummary | None, evaluation: EvaluationSummary | None) -> str:
    """Return the days of the measured test rows, or how they were split, as text; empty if unknown.

    The unit of the intervals follows, unless it is the day alone or the metric is that of folds.
    """
    by = f", resampled by {evaluation.resampled_by}" if evaluation is not None and evaluation.resampled_by else ""
    if evaluation is not None and evaluation.split is not None:
        return f" split {evaluation.split.words}{'' if evaluation.cross_validation else by}"
    for window in training_set.windows if training_set else ():
        if window.split == "test":
            until = evaluation.last_seen_day if evaluation is not None and evaluation.excluded_rows else None
            return (
                f" of {days((window.first_day if until is None else until + timedelta(days=1), window.last_day))}{by}"
            )
    return ""


def left_out(evaluation: EvaluationSummary | None) -> str:
    """Return how many test rows are excluded, and why; empty if there are none."""
    if evaluation is None or not evaluation.excluded_rows:
        return ""
    count, which = evaluation.excluded_rows, "rows of earlier days" if evaluation.split is None else "other rows"
    return f"; {count:,} {which} are excluded, because a compared model was trained or tuned on them"


def time(moment: datetime) -> str:
    """Format a time, naive UTC, to the minute."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _short(version: str) -> str:
    return version[:12]


def _plain(value: float | str | bool | None) -> str:  # noqa: FBT001 - a parameter may be a Boolean
    """Format a parameter: six significant digits, no separators."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _figure(value: float) -> str:
    """Format a figure of the gate. A count is stored as a float and has no decimals."""
    return number(int(value) if float(value).is_integer() else value)


def _fixed(value: float | None) -> str:
    """Format small figures of one column with four decimals, so that they can be compared by eye."""
    return "–" if value is None else f"{value:z.4f}".replace("-", "−")


def span(figure: Interval) -> str:
    """Format only the interval of a figure, or that there is none."""
    return interval(figure).split(" ", 1)[1]


def signed(value: float) -> str:
    """Format a difference with its sign."""
    return f"+{number(value)}" if value > 0 else number(value)


def _signed_number(value: float | None) -> str:
    """Format a difference with its sign, or that it is not measured."""
    return "not measured" if value is None else signed(value)


def signed_interval(figure: Interval) -> str:
    """Write a difference with its sign and interval."""
    return f"+{interval(figure)}" if figure.value > 0 else interval(figure)


def _bounds(parts: tuple[float | None, float | None, float | None]) -> str:
    value, low, high = parts
    if value is None or low is None or high is None:
        return number(value)
    return interval(Interval(value=value, low=low, high=high))


def _signed_bounds(parts: tuple[float | None, float | None, float | None]) -> str:
    words = _bounds(parts)
    return f"+{words}" if parts[0] is not None and parts[0] > 0 else words


def verdict(item: Comparison) -> str:
    """Write what a comparison shows by its own interval."""
    return {
        "good-text": "this model is better",
        "bad-text": "this model is worse",
        "": "neither is shown to be better",
    }[tone(item)]


def tone(item: Comparison) -> Literal["good-text", "bad-text", ""]:
    """Return the class of a difference's text: good or bad only where its interval leaves 0 out."""
    low, high = item.difference.low, item.difference.high
    if low is not None and low > 0:
        return "good-text"
    if high is not None and high < 0:
        return "bad-text"
    return ""
