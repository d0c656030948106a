"""The kinds of files that a lake holds, and the ways in which one of them can be damaged.

`tests/lake/test_damaged_artifacts.py` shows that each is noticed; benchmarks may import this.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

_VERSION: Final = r"[0-9a-f]{32}"


def _of_artifact(file: str, asset: str = r"\w+/\w+") -> str:
    return rf"artifacts/{asset}/([^/]+/)?{_VERSION}/{file}"


KINDS: Final[Mapping[str, re.Pattern[str]]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "raw table": _of_artifact(r"data\.parquet", r"raw/[a-z0-9]+(_[a-z0-9]+)*"),
        "table": _of_artifact(r"data\.parquet", r"tables/[a-z0-9]+(_[a-z0-9]+)*"),
        "quarantined rows": _of_artifact(r"data\.parquet", r"\w+/\w+__quarantine"),
        "rejected rows": _of_artifact(r"data\.parquet", r"\w+/\w+__rejected"),
        "released rows": _of_artifact(r"data\.parquet", r"\w+/\w+__released"),
        "leak test": _of_artifact(r"data\.json", r"\w+/features__leak_test"),
        "training set": _of_artifact(r"rows\.parquet", r"\w+/training_set"),
        "model text": _of_artifact(r"booster\.txt", r"\w+/model"),
        "model spec": _of_artifact(r"spec\.json", r"\w+/model"),
        "model contract": _of_artifact(r"contract\.json", r"\w+/model"),
        "reference": _of_artifact(r"reference\.parquet", r"\w+/model"),
        "evaluation": _of_artifact(r"summary\.json", r"\w+/evaluation"),
        "predictions": _of_artifact(r"data\.parquet", r"\w+/predictions"),
        "card": _of_artifact(r"\w+\.html", r"\w+/card"),
        "manifest": _of_artifact(r"manifest(-[0-9A-Za-z.-]+)?\.json"),
        "frame of another artifact": _of_artifact(r"\w+\.parquet"),
        "record of another artifact": _of_artifact(r"[\w.]+\.json"),
        "order record": r"order/.*\.json",
        "promotion entry": r"promotions/\w+/\d{6}\.json",
        "step record": r"runs/[^/]+/[^/]+/\d+(-[0-9a-f]{8})?\.json",
        "failed attempt": r"runs/[^/]+/[^/]+/\d+(-[0-9a-f]{8})?\.failed",
        "environment": rf"environments/{_VERSION}\.json",
        "study": r"studies/\w+/[^/]+",
        "reproduction": rf"reproductions/\w+/{_VERSION}/[^/]+\.json",
        "retraining": r"retrainings/\w+/[^/]+\.json",
        "alert to be sent": r"alerts/open/[^/]+\.json",
        "alert": r"alerts/\d{4}-\d\d-\d\d/[^/]+\.json",
        "try to send an alert": r"alerts/\d{4}-\d\d-\d\d/[^/]+/[^/]+\.json",
        "removed manifest": r"removed/artifacts/.*/manifest(-[0-9A-Za-z.-]+)?\.json",
        "note of a removal": r"removed/artifacts/.*/removed\.json",
        "lock": r"locks/[^/]+/[^/]+\.json",
    }.items()
}
"""Each kind of file by the pattern of its path from the lake's root."""

WAYS: Final[Mapping[str, Callable[[bytes, bytes], bytes | None]]] = {
    "cut off": lambda data, _: data[: len(data) * 2 // 3],
    "emptied": lambda _, __: b"",
    "a flipped bit": lambda data, _: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
    ),
    "deleted": lambda _, __: None,
    "replaced by another": lambda _, other: other,
}
"""What becomes of a file: of its bytes and those of another valid one of its kind. None where the file is gone."""


def kind_of(path: str) -> str | None:
    """Return the kind of a file of a lake by its path from the root; None where it is none of these."""
    return next((name for name, pattern in KINDS.items() if pattern.fullmatch(path)), None)


def by_kind(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return paths from a lake's root by kind, sorted; what is of no kind is left out."""
    found: dict[str, list[str]] = {}
    for path in sorted(paths):
        if (kind := kind_of(path)) is not None:
            found.setdefault(kind, []).append(path)
    return found
