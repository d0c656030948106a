"""Where a study lies that several workers share: Postgres, or a file of this machine.

What is searched stays out; see `ml_assets.logic.training.shared_study`.
"""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_assets.settings import SettingsError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

STUDIES: Final = "ML_ASSETS_STUDIES"
BEAT_SECONDS: Final = 5
"""How often a worker says that its trial is alive."""

SILENT_SECONDS: Final = 30
"""After so long without a word a trial is handed out again."""

_BUSY_SECONDS: Final = 60
"""How long a process waits for the others to be done with a SQLite file."""


def studies_url() -> str | None:
    """Return the database that `ML_ASSETS_STUDIES` names; none where it is not set.

    Raises:
        SettingsError: it names no Postgres database; the message never holds it, for a password may stand in it.
    """
    url = os.environ.get(STUDIES, "").strip()
    if not url:
        return None
    scheme, _, rest = url.partition("://")
    if scheme.split("+")[0] not in {"postgresql", "postgres"} or "/" not in rest or not rest.partition("/")[2]:
        raise SettingsError(
            f"{STUDIES} names no Postgres database; expected postgresql://user:password@host/database. Set it so, from "
            "a secret, in the run's pod and the workers' alike, or leave it out where workers are processes."
        )
    return f"postgresql{url[len(scheme.split('+')[0]) :]}"


def file_url(path: Path) -> str:
    """Return how a file of this machine is named as a database."""
    return f"sqlite:///{path}"


def open_storage(url: str, *, beat: int = BEAT_SECONDS, silent: int = SILENT_SECONDS) -> "RDBStorage":
    """Return the storage of studies in a database; its tables are made if it has none.

    Args:
        url: as SQLAlchemy has it.
        beat: seconds between two signs of life of a running trial.
        silent: seconds without one after which a trial is handed out again.

    Raises:
        SettingsError: it cannot be reached, or is another program's.
    """
    import optuna
    from sqlalchemy.exc import OperationalError

    arguments: dict[str, Any] = (
        {"connect_args": {"timeout": _BUSY_SECONDS}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    )
    try:
        _refuse_anothers(url, arguments)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats have been since 2.6
            return optuna.storages.RDBStorage(
                url,
                engine_kwargs=arguments,
                heartbeat_interval=beat,
                grace_period=silent,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
            )
    except OperationalError as error:
        # What the driver says names host and user, never the password; SQLAlchemy's own text is left out.
        raise SettingsError(f"the database of {STUDIES} cannot be reached: {str(error.orig).strip()}.") from None


def _refuse_anothers(url: str, arguments: dict[str, Any]) -> None:
    """Make sure that a database is not another program's, before tables are made in it.

    Optuna and Dagster both keep their schema's revision in a table `alembic_version`: in Dagster's database Optuna
    takes the one that it finds for its own, and a migration of Dagster would one day find Optuna's.

    Raises:
        SettingsError: it is.
    """
    import sqlalchemy as db

    engine = db.create_engine(url, poolclass=db.NullPool, **arguments)
    found = db.inspect(engine)
    if found.has_table("alembic_version") and not found.has_table("version_info"):
        raise SettingsError(
            f"the database of {STUDIES} is another program's: it has tables with revisions, and none of Optuna's. "
            "Expected one of its own, not Dagster's. Make it with CREATE DATABASE, and name that."
        )


def delete_studies(storage: "RDBStorage", prefix: str) -> None:
    """Delete the studies whose names begin so: those of earlier attempts, and what still works at them ends."""
    import optuna

    for name in optuna.get_all_study_names(storage):
        if name.startswith(prefix):
            optuna.delete_study(study_name=name, storage=storage)
