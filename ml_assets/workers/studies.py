"""Storage of an Optuna study that several workers share: Postgres, or a file of this machine.

Not here: the search itself (see `ml_assets.logic.training.shared_study`).
"""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_assets.settings import SettingsError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy import Engine

STUDIES: Final = "ML_ASSETS_STUDIES"
BEAT_SECONDS: Final = 5
"""How often a worker records a heartbeat for its trial."""

SILENT_SECONDS: Final = 30
"""A trial without a heartbeat for this long is given to another worker."""

_BUSY_SECONDS: Final = 60
"""How long a process waits for a lock on the SQLite file."""


def studies_url() -> str | None:
    """Return the database in `ML_ASSETS_STUDIES`; None if it is not set.

    Raises:
        SettingsError: it is not a Postgres database. The message omits the value, which may contain a password.
    """
    url = os.environ.get(STUDIES, "").strip()
    if not url:
        return None
    scheme, _, rest = url.partition("://")
    if scheme.split("+")[0] not in {"postgresql", "postgres"} or "/" not in rest or not rest.partition("/")[2]:
        raise SettingsError(
            f"{STUDIES} is not a Postgres database; expected postgresql://user:password@host/database. Set it from a "
            "secret, to the same value in the run's pod and the workers' pods, or remove it if workers are processes."
        )
    return f"postgresql{url[len(scheme.split('+')[0]) :]}"


def file_url(path: Path) -> str:
    """Return the database URL of a file of this machine."""
    return f"sqlite:///{path}"


def open_storage(url: str, *, beat: int = BEAT_SECONDS, silent: int = SILENT_SECONDS) -> "RDBStorage":
    """Return the study storage in a database, and create its tables if they do not exist.

    Args:
        url: the URL in SQLAlchemy's format.
        beat: seconds between two heartbeats of a running trial.
        silent: seconds without a heartbeat after which a trial is given to another worker.

    Raises:
        SettingsError: the database cannot be reached, or belongs to another program.
    """
    import optuna
    from sqlalchemy.exc import OperationalError

    arguments: dict[str, Any] = (
        {"connect_args": {"timeout": _BUSY_SECONDS}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    )
    try:
        _refuse_anothers(url, arguments)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # its heartbeats
            storage = optuna.storages.RDBStorage(
                url,
                engine_kwargs=arguments,
                heartbeat_interval=beat,
                grace_period=silent,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
            )
    except OperationalError as error:
        # The driver's message names host and user, never the password. SQLAlchemy's own text is omitted.
        raise SettingsError(f"the database of {STUDIES} cannot be reached: {str(error.orig).strip()}.") from None
    if url.startswith("sqlite"):
        _lock_in_transactions(storage.engine)
    return storage


def _lock_in_transactions(engine: "Engine") -> None:
    """Let each transaction on a SQLite file lock it when it begins.

    To fetch a trial is to read its state and then to write it. Python's driver locks the file at the first write, so
    two workers can read the same trial before; SQLite has no SELECT FOR UPDATE. The statements are those of
    https://docs.sqlalchemy.org/en/20/dialects/sqlite.html (serializable isolation).
    """
    import sqlalchemy as db

    engine.dispose()
    db.event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    db.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))


def _refuse_anothers(url: str, arguments: dict[str, Any]) -> None:
    """Check that a database does not belong to another program before tables are created in it.

    Optuna and Dagster both store their schema's revision in a table `alembic_version`. In Dagster's database, Optuna
    would take Dagster's revision for its own, and a later migration of Dagster would find Optuna's.

    Raises:
        SettingsError: the database belongs to another program.
    """
    import sqlalchemy as db

    engine = db.create_engine(url, poolclass=db.NullPool, **arguments)
    found = db.inspect(engine)
    if found.has_table("alembic_version") and not found.has_table("version_info"):
        raise SettingsError(
            f"the database of {STUDIES} belongs to another program: it has revision tables, but not Optuna's. "
            "Expected a database of its own, not Dagster's. Create one with CREATE DATABASE, and set its URL."
        )


def delete_studies(storage: "RDBStorage", prefix: str) -> None:
    """Delete the studies whose names begin with a prefix: those of earlier attempts. Workers on them then stop."""
    import optuna

    for name in optuna.get_all_study_names(storage):
        if name.startswith(prefix):
            optuna.delete_study(study_name=name, storage=storage)
