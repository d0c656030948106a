"""Checks the small records beside artifacts: steps, environments, searches, verdicts, retrainings, alerts, removals."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from ml_assets.alerts.outbox import read_taken
from ml_assets.contracts.words import counted
from ml_assets.doctor.checks import Finding
from ml_assets.lake.errors import CorruptArtifactError, LakeError, UnreachableLakeError
from ml_assets.lake.manifest import MOST_BYTES
from ml_assets.lake.manifests import REMOVED, Manifests
from ml_assets.lake.origin import ENVIRONMENTS, load_environment
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.sealing import RESTORE, seal_problem
from ml_assets.lake.steps import RUNS, failures_of, steps_of

_SEALED: Final = ("studies", "reproductions", "retrainings", "alerts", REMOVED)
_UNSEALED: Final = "alerts/rate/"
_ALERT: Final = re.compile(r"alerts/[^/]+/[^/]+\.json")
_SHOWN: Final = 5


def records(resource: LakeResource) -> Iterator[Finding]:
    """Yield damaged records. Their content is validated where it is read."""
    try:
        yield from _look(resource.connect())
    except LakeError as error:
        yield Finding("records", "wrong", str(error), "See the findings of the lake check.")


def _look(lake: Manifests) -> Iterator[Finding]:
    environments = [name.removesuffix(".json") for name in lake.names(lake.path(ENVIRONMENTS))]
    paths = [f"{top}/{name}" for top in _SEALED for name in lake.tree(lake.path(top)) if name.endswith(".json")]
    wanted: list[Callable[[], object]] = [
        *(partial(_read_run, lake, run) for run in lake.names(lake.path(RUNS))),
        *(partial(load_environment, lake, digest) for digest in environments),
        *(partial(read_taken, lake, lake.path(path)) for path in paths if _ALERT.fullmatch(path)),
        *(partial(_read_sealed, lake, lake.path(path)) for path in paths if not path.startswith(_UNSEALED)),
    ]
    with lake.pool(len(wanted)) as each:
        problems = [problem for problem in each(_problem, wanted) if problem is not None]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        yield Finding("records", "wrong", f"{'; '.join(problems[:_SHOWN])}{more}", RESTORE)
    elif wanted:
        yield Finding("records", "ok", f"intact: {counted(len(wanted), 'record')} beside artifacts.")


def _read_run(lake: Manifests, run: str) -> None:
    for _ in (*steps_of(lake, run), *failures_of(lake, run)):
        pass


def _read_sealed(lake: Manifests, path: str) -> None:
    """Read a sealed text.

    Raises:
        CorruptArtifactError: its digest does not match.
    """
    if (problem := seal_problem(lake.read(path, limit=MOST_BYTES))) is not None:
        raise CorruptArtifactError(f"{path} is damaged: {problem}.")


def _problem(read: Callable[[], object]) -> str | None:
    """Return why a record cannot be read; None if it can."""
    try:
        read()
    except UnreachableLakeError:
        raise
    except LakeError as error:
        return str(error)
    return None
