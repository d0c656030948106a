"""Checks Dagster's instance: its settings, its database and its daemon, as Dagster itself reports them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import dagster as dg
import yaml

from ml_assets.doctor.checks import Finding
from ml_assets.extras import ExtraMissingError, as_extra_error

_OWN_EVENTS: Final = ("ml_assets.dagster_storage.event_log", "ml_assets.dagster_storage.event_log_postgres")
_FIX: Final = "Fix dagster.yaml, the environment variables that it reads, or the connection to its database."


def dagster_instance(home: str, *, is_production: bool) -> Iterator[Finding]:
    """Yield whether Dagster's instance can be used, whether its tables are current, and whether its daemon runs.

    Args:
        home: Dagster's home.
        is_production: whether a daemon must run. Elsewhere `ml-assets ui` starts one.
    """
    if not (Path(home) / "dagster.yaml").is_file():
        yield Finding("dagster", "ok", f"{home} has no dagster.yaml yet; it is written on first use.")
        return
    try:
        with dg.DagsterInstance.from_config(home) as instance:
            yield from _look(instance, is_production=is_production)
    except Exception as error:  # noqa: BLE001 - each class in dagster.yaml raises its own errors
        yield _broken(home, error)


def _look(instance: dg.DagsterInstance, *, is_production: bool) -> Iterator[Finding]:
    yield Finding("dagster", "ok", f"its database answers; runs are stored by {type(instance.run_storage).__name__}.")
    yield _migrations(instance)
    if type(instance.event_log_storage).__module__ not in _OWN_EVENTS:
        yield Finding(
            "dagster", "warning", "the event log gives all days of a run one data version, so days that are "
            "materialized again by themselves always look changed.",
            "Set event_log_storage to BatchingPostgresEventLogStorage of "
            "ml_assets.dagster_storage.event_log_postgres.",
        )  # fmt: skip
    statuses = instance.get_daemon_statuses().values()
    if still := sorted(one.daemon_type.lower() for one in statuses if one.required and not one.healthy):
        yield Finding(
            "daemon", "wrong" if is_production else "warning",
            f"no recent heartbeat of {', '.join(still)}: no schedule, sensor or queued run starts.",
            "Start dagster-daemon, or look at its log." if is_production else "`ml-assets ui` starts it.",
        )  # fmt: skip
    else:
        yield Finding("daemon", "ok", "all its parts have a recent heartbeat.")


def _migrations(instance: dg.DagsterInstance) -> Finding:
    """Return whether the tables have the revision that this Dagster expects."""
    storages = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
    revisions = {one.alembic_version() for one in storages if one is not None} - {None}
    old = sorted(f"{it[0]} instead of {it[1]}" for it in revisions if it is not None and it[0] != it[1])
    if not old:
        return Finding("migrations", "ok", "the tables have the revision that this Dagster expects.")
    return Finding(
        "migrations", "wrong", f"the tables have revision {', '.join(old)}.",
        "Stop the daemon and the webserver, back up the database, then: dagster instance migrate",
    )  # fmt: skip


def _broken(home: str, error: Exception) -> Finding:
    """Return why an instance cannot be used, without YAML's message: it quotes lines, which may have a password."""
    where = f"{home}/dagster.yaml"
    cause: BaseException = error
    while (before := cause.__cause__ or cause.__context__) is not None:
        cause = before
    known = as_extra_error(cause, needed_by=where) if isinstance(cause, Exception) else error
    if isinstance(known, ExtraMissingError):
        return Finding("dagster", "wrong", known.reason, known.command)
    if isinstance(error, yaml.YAMLError):
        return Finding("dagster", "wrong", f"{where} is not YAML.", _FIX)
    messages = [one.message for one in getattr(error, "errors", ())] or dict.fromkeys([str(error), str(cause)])
    text = " ".join(" ".join(messages).split())
    return Finding("dagster", "wrong", f"the instance of {where} cannot be used: {text}", _FIX)
