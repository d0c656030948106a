"""Days, times, figures and comparisons as the card writes them, and the filters of its template.

Figures that plots write too stay out: see `plots.drawing`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from ml_assets.contracts.artifacts import Interval
from ml_assets.logic.plots.drawing import interval, metric_name, number, share

if TYPE_CHECKING:
    from datetime import date, datetime

    from jinja2 import Environment

    from ml_assets.contracts.artifacts import Comparison, EvaluationSummary, Task, TrainingSetSummary


def environment(task: Task) -> Environment:
    """Return Jinja with escaping and the filters that turn values into their words."""
    from jinja2 import Environment, StrictUndefined

    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
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
        "signed_bounds": _signed_bounds,
        "tone": tone,
    }
    return jinja


def target_words(task: Task) -> str:
    """Return what the mean of the target is called."""
    return "Positive" if task == "binary" else "Target mean"


def days(ends: tuple[date | None, date | None]) -> str:
    """Write a window by its first and last day; `–` where one of them is not known."""
    first, last = ends
    if first is None or last is None:
        return "–"
    return str(first) if first == last else f"{first} to {last}"


def test_days(training_set: TrainingSetSummary | None, evaluation: EvaluationSummary | None) -> str:
    """Write which days the measured test rows are of; nothing where that is not known."""
    for window in training_set.windows if training_set else ():
        if window.split == "test":
            until = evaluation.learned_until if evaluation is not None and evaluation.left_out else None
            return f" of {days((window.first_day if until is None else until + timedelta(days=1), window.last_day))}"
    return ""


def left_out(evaluation: EvaluationSummary | None) -> str:
    """Write how many test rows are not measured on, and why; nothing where there are none."""
    if evaluation is None or not evaluation.left_out:
        return ""
    count = evaluation.left_out
    return f"; {count:,} of earlier days are left out, as a compared model learned from them"


def time(moment: datetime) -> str:
    """Write a moment, naive UTC, to the minute."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _short(version: str) -> str:
    return version[:12]


def _plain(value: float | str | bool | None) -> str:  # noqa: FBT001 - a parameter may be a Boolean
    """Write a parameter as it is: six significant digits, no separators."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _figure(value: float) -> str:
    """Write a figure of the gate; a count is stored as a float and has no decimals."""
    return number(int(value) if float(value).is_integer() else value)


def _fixed(value: float | None) -> str:
    """Write small figures of one column with the same four decimals, so that they can be compared by eye."""
    return "–" if value is None else f"{value:z.4f}".replace("-", "−")


def span(figure: Interval) -> str:
    """Write only the interval of a figure, or that there is none."""
    return interval(figure).split(" ", 1)[1]


def signed(value: float) -> str:
    """Write a difference with its sign."""
    return f"+{number(value)}" if value > 0 else number(value)


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
