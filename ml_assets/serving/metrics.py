"""What the service counts, in the text format of Prometheus."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final, Literal, get_args

from ml_assets.serving.challenger import Challenger
from ml_assets.serving.degenerate import Degenerate
from ml_assets.serving.output_watch import OutputWatch
from ml_assets.serving.served_model import Served, ServedModel

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the histogram of seconds."""
Logged = Literal["accepted", "written", "dropped"]
Beside = Literal["scored", "failed"]
TEXT_FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one process."""

    def __init__(self) -> None:
        self.in_progress = 0
        self._turn = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._rows: Counter[str] = Counter()
        self._unseen: Counter[tuple[str, str]] = Counter()
        self._refused: Counter[str] = Counter()
        self._logged: Counter[tuple[str, Logged]] = Counter()
        self._beside: Counter[tuple[str, Beside]] = Counter()
        self._canary: Counter[str] = Counter()
        self._seconds: dict[str, list[int]] = {}
        self._total: dict[str, float] = {}

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests[route, status] += 1
        self._seconds.setdefault(route, [0] * (len(BUCKETS) + 1))[bisect_left(BUCKETS, seconds)] += 1
        self._total[route] = self._total.get(route, 0.0) + seconds

    def count_rows(self, model: str, scores: Served) -> None:
        """Count scored rows and their unseen categories, from any thread."""
        with self._turn:
            self._rows[model] += scores.rows
            for name, count in scores.unseen.items():
                self._unseen[model, name] += count

    def count_beside(self, model: str, what: Beside, rows: int) -> None:
        """Count rows of a version that does not answer them, from any thread."""
        with self._turn:
            self._beside[model, what] += rows

    def count_canary(self, model: str, rows: int) -> None:
        """Count rows that a challenger has answered, from any thread."""
        with self._turn:
            self._canary[model] += rows

    def count_refused(self, model: str) -> None:
        """Count a version that was not served because its check failed."""
        self._refused[model] += 1

    def count_logged(self, model: str, what: Logged, rows: int) -> None:
        """Count rows for the request log, from any thread."""
        with self._turn:
            self._logged[model, what] += rows

    def text(self, models: Iterable[ServedModel], watch: OutputWatch, online: Iterable[Challenger] = ()) -> str:
        """Return all metrics."""
        lines = chain(self._lines([*models]), self._of_challengers(online), _watched(watch))
        return "".join(f"{line}\n" for line in lines)

    def _lines(self, models: list[ServedModel]) -> Iterator[str]:
        yield from _family("ml_assets_requests_total", "counter", "Answered requests.")
        for (route, status), count in sorted(self._requests.items()):
            yield _sample("ml_assets_requests_total", {"route": route, "status": str(status)}, count)
        yield from _family("ml_assets_request_seconds", "histogram", "Seconds from the first byte to the answer.")
        for route, counts in sorted(self._seconds.items()):
            below = 0
            for end, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
                below += count
                yield _sample("ml_assets_request_seconds_bucket", {"route": route, "le": end}, below)
            yield _sample("ml_assets_request_seconds_sum", {"route": route}, self._total[route])
            yield _sample("ml_assets_request_seconds_count", {"route": route}, below)
        yield from _family("ml_assets_requests_in_progress", "gauge", "Requests that are not answered yet.")
        yield _sample("ml_assets_requests_in_progress", {}, self.in_progress)
        yield from _family("ml_assets_rows_total", "counter", "Scored rows.")
        for model, count in sorted(self._rows.items()):
            yield _sample("ml_assets_rows_total", {"model": model}, count)
        yield from _family("ml_assets_unseen_categories_total", "counter", "Categories that training did not have.")
        for (model, name), count in sorted(self._unseen.items()):
            yield _sample("ml_assets_unseen_categories_total", {"model": model, "field": name}, count)
        yield from _family("ml_assets_logged_rows_total", "counter", "Rows for the request log.")
        for (model, what), count in sorted(self._logged.items()):
            yield _sample("ml_assets_logged_rows_total", {"model": model, "state": what}, count)
        yield from _family("ml_assets_refused_versions_total", "counter", "Champions whose check failed.")
        for it in models:
            yield _sample("ml_assets_refused_versions_total", {"model": it.name}, self._refused[it.name])
        yield from _family("ml_assets_model_info", "gauge", "The served version of each model.")
        for it in models:
            yield _sample("ml_assets_model_info", {"model": it.name, "version": it.version}, 1)
        yield from _family("ml_assets_model_entry", "gauge", "The entry of the promotion log of each served version.")
        for it in models:
            yield _sample("ml_assets_model_entry", {"model": it.name}, it.entry.number)

    def _of_challengers(self, online: Iterable[Challenger]) -> Iterator[str]:
        yield from _family("ml_assets_beside_rows_total", "counter", "Rows scored by a version that does not answer.")
        for (model, state), count in sorted(self._beside.items()):
            yield _sample("ml_assets_beside_rows_total", {"model": model, "state": state}, count)
        yield from _family("ml_assets_canary_rows_total", "counter", "Rows that a challenger has answered.")
        for model, count in sorted(self._canary.items()):
            yield _sample("ml_assets_canary_rows_total", {"model": model}, count)
        yield from _family("ml_assets_canary_share", "gauge", "The share of the keys that a challenger answers.")
        for it in online:
            yield _sample("ml_assets_canary_share", {"model": it.served.name, "version": it.served.version}, it.share)


def _watched(watch: OutputWatch) -> Iterator[str]:
    """Yield the shares of the last window of each model, and whether each kind of degenerate output is alarming."""
    judged = sorted(watch.judged.items())
    yield from _family("ml_assets_window_rows", "gauge", "Rows of the last window that was judged.")
    for model, (rows, _) in judged:
        yield _sample("ml_assets_window_rows", {"model": model}, rows)
    yield from _family("ml_assets_window_share", "gauge", "Shares of its rows that may be degenerate.")
    for model, (_, found) in judged:
        for it in found:
            field = {} if it.field is None else {"field": it.field}
            yield _sample("ml_assets_window_share", {"model": model, "kind": it.what, **field}, it.observed)
    yield from _family("ml_assets_degenerate_output", "gauge", "Whether a share of its rows is above its limit.")
    for model, _ in judged:
        for what in get_args(Degenerate):
            is_active = (model, what) in watch.active
            yield _sample("ml_assets_degenerate_output", {"model": model, "kind": what}, int(is_active))


def _family(name: str, kind: str, what: str) -> tuple[str, str]:
    return f"# HELP {name} {what}", f"# TYPE {name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    given = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{given}}} {value}" if given else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
