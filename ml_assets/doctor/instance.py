"""Checks Dagster's instance: its settings, and the database of runs, events and schedules.

Dagster's storage classes are not opened: they create tables, and retry for long if the server does not respond.
"""

import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dagster import DagsterError
from dagster._check import CheckError
from dagster._config import process_config, resolve_to_config_type
from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import ConfigurableClassData

from ml_assets.doctor.checks import Finding
from ml_assets.extras import ExtraMissingError, as_extra_error

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_OWN_EVENTS: Final = ("ml_assets.dagster_storage.event_log", "ml_assets.dagster_storage.event_log_postgres")
_CROWDED: Final = 0.8


class SettingsOfInstanceError(RuntimeError):
    """`dagster.yaml` is not valid."""


def read_instance(home: str) -> InstanceRef | None:
    """Return the content of `dagster.yaml`; None if it does not exist yet.

    Raises:
        SettingsOfInstanceError: it is not valid.
    """
    if not (Path(home) / "dagster.yaml").is_file():
        return None
    import yaml

    try:
        return InstanceRef.from_dir(home)
    except yaml.YAMLError:  # its message quotes the file, which may contain a password
        raise SettingsOfInstanceError(f"{home}/dagster.yaml is not YAML.") from None
    except DagsterInvalidConfigError as error:
        messages = " ".join(one.message for one in error.errors) or str(error).splitlines()[0]
        raise SettingsOfInstanceError(f"{home}/dagster.yaml: {messages}") from None
    except (DagsterError, CheckError) as error:
        raise SettingsOfInstanceError(f"{home}/dagster.yaml: {str(error).splitlines()[0]}") from None


def class_and_config(data: ConfigurableClassData) -> tuple[type, Mapping[str, Any]]:
    """Return the class that a part of `dagster.yaml` names, and its settings with environment variables resolved.

    Raises:
        ExtraMissingError: the class belongs to an extra that is not installed.
        SettingsOfInstanceError: the class does not exist, or its settings are not valid.
    """
    name = f"{data.module_name}.{data.class_name}"
    try:
        found = getattr(importlib.import_module(data.module_name), data.class_name)
    except (ImportError, AttributeError) as error:
        known = as_extra_error(error, needed_by=f"{name} in dagster.yaml")
        if isinstance(known, ExtraMissingError):
            raise known from error
        raise SettingsOfInstanceError(f"dagster.yaml names {name}, which cannot be imported: {error}.") from error
    result = process_config(resolve_to_config_type(found.config_type()), dict(data.config_dict))
    if not result.success:
        messages = " ".join(one.message for one in result.errors or ())
        raise SettingsOfInstanceError(f"dagster.yaml's settings of {name} are not valid: {messages}")
    return found, result.value or {}


def dagster_instance(home: str) -> Iterator[Finding]:
    """Yield whether Dagster's instance can be used."""
    try:
        ref = read_instance(home)
        if ref is None:
            yield Finding("dagster", "ok", f"{home} has no dagster.yaml yet; it is written on first use.")
            return
        data = ref.event_storage_data
        stores = {
            "runs": ref.run_storage_data, "events": ref.event_storage_data, "schedules": ref.schedule_storage_data,
        }  # fmt: skip
        opened = {what: class_and_config(one) for what, one in stores.items() if one is not None}
    except SettingsOfInstanceError as error:
        yield Finding(
            "dagster", "wrong", str(error), "Fix dagster.yaml, or set the environment variables that it reads."
        )
        return
    except ExtraMissingError as error:
        yield Finding("dagster", "wrong", error.reason, error.command)
        return
    names = {what: found.__name__ for what, (found, _) in opened.items()}
    yield Finding("dagster", "ok", "stored by " + ", ".join(f"{name} ({what})" for what, name in names.items()) + ".")
    if data is not None and data.module_name not in _OWN_EVENTS:
        yield Finding(
            "dagster", "warning", "the event log gives all days of a run one data version, so days that are "
            "materialized again by themselves always look changed.",
            "Set event_log_storage to BatchingPostgresEventLogStorage of "
            "ml_assets.dagster_storage.event_log_postgres.",
        )  # fmt: skip
    configs = {repr(sorted(config.items())): config for found, config in opened.values() if _is_postgres(found)}
    for config in configs.values():
        yield from _postgres(config)
    if not configs and not os.access(home, os.W_OK):
        yield Finding("dagster", "wrong", f"{home} is not writable.", "Give this user permission to write there.")


def _is_postgres(found: type) -> bool:
    return any(one.__module__.startswith("dagster_postgres") for one in found.__mro__)


def _postgres(config: Mapping[str, Any]) -> Iterator[Finding]:
    import sqlalchemy as db
    from dagster_postgres.utils import pg_url_from_config
    from sqlalchemy.pool import NullPool

    if config.get("auth_provider"):
        yield Finding(
            "postgres", "warning", "it uses a cloud's token for login, which is not tested here.",
            "Look for connection errors in the daemon's log.",
        )  # fmt: skip
        return
    url = db.make_url(pg_url_from_config(config))
    where = f"{url.host or 'localhost'}:{url.port or 5432}, database {url.database}"
    engine = db.create_engine(
        url, poolclass=NullPool, connect_args={"connect_timeout": 4, "application_name": "ml-assets doctor"}
    )
    try:
        with engine.connect() as connection:
            connection.execute(db.text("SET statement_timeout = 3000"))
            yield from _database(connection, where)
    except db.exc.DBAPIError as error:
        yield Finding(
            "postgres", "wrong", f"{where} cannot be used: {' '.join(str(error.orig).split())}",
            "Check host, port, user and password in dagster.yaml and in the variables that it reads, and that no "
            "network policy or firewall blocks the connection.",
        )  # fmt: skip


def _database(connection: "Connection", where: str) -> Iterator[Finding]:
    """Yield the findings about a database that responds."""
    import sqlalchemy as db
    from dagster._core.storage.sql import check_alembic_revision
    from dagster_postgres import event_log
    from dagster_postgres.utils import pg_alembic_config

    def query(sql: str) -> Any:
        return connection.execute(db.text(sql)).scalar()

    yield Finding("postgres", "ok", f"{where} answers; version {query('SHOW server_version')}.")
    if query("SHOW transaction_read_only") == "on":
        yield Finding("postgres", "wrong", "it is read-only.", "Connect to the primary, not a replica.")
    used, most = query("SELECT count(*) FROM pg_stat_activity"), int(query("SHOW max_connections"))
    if used > _CROWDED * most:
        yield Finding(
            "postgres", "warning", f"{used} of {most} connections are in use.",
            "Raise max_connections, or limit concurrent runs; each pod uses a few connections.",
        )  # fmt: skip
    if not db.inspect(connection).has_table("event_logs"):
        may = query("SELECT has_schema_privilege(current_schema(), 'CREATE')")
        yield Finding(
            "migrations", "ok" if may else "wrong",
            "the database is empty; Dagster creates its tables on first use."
            if may else "the database is empty, and this user may not create tables.",
            "" if may else "GRANT CREATE ON SCHEMA public TO that user.",
        )  # fmt: skip
        return
    has, wants = check_alembic_revision(pg_alembic_config(event_log.__file__), connection)
    is_current = has == wants
    yield Finding(
        "migrations", "ok" if is_current else "wrong",
        f"the tables have revision {has}" + ("." if is_current else f"; this Dagster needs {wants}."),
        "" if is_current else "Stop the daemon and the webserver, back up the database, then: dagster instance migrate",
    )  # fmt: skip
