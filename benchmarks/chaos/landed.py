"""Land the flights of one day, by a clock that may be wrong.

python -m benchmarks.chaos.landed LAKE SOURCES DAY DAYS_OFF
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

from ml_assets.lake.resource import LakeResource
from ml_assets.warehouse.project_contracts import read_manifest
from tests.builders import nothing_rendered, project
from tests.flights import DBT_PROJECT
from tests.killing import declared


class _Shown(type(datetime)):  # type: ignore[misc]
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


def set_clock(off: timedelta) -> None:
    """Give every module of ours another time; Dagster's own records have the right one."""

    class Clock(datetime, metaclass=_Shown):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + off

    for name, module in [*sys.modules.items()]:
        if name.split(".")[0] == "ml_assets" and getattr(module, "datetime", None) is datetime:
            module.datetime = Clock  # type: ignore[attr-defined]


def main(arguments: Sequence[str]) -> int:
    """Land; 1 if it fails."""
    lake, sources, day, off = arguments
    with (
        nothing_rendered(),
        project(LakeResource(url=lake), declared(Path(sources)), manifest=read_manifest(DBT_PROJECT)) as whole,
    ):
        set_clock(timedelta(days=int(off)))
        done = whole.materialize("raw/flights", over=(day, day))
        print(whole.log.getvalue() or datetime.now(tz=UTC))
    return 0 if done.success else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
