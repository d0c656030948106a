"""Where a study lies that several workers share: Postgres, or a file of this machine.

What is searched stays out; see `ml_assets.logic.shared_study`.
"""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from resources.settings import SettingsError

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
        SettingsError: it cannot be reached.
    """
    import optuna
    from sqlalchemy.exc import OperationalError

    arguments: dict[str, Any] = (
        {"connect_args": {"timeout": _BUSY_SECONDS}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    )
    try:
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


def delete_studies(storage: "RDBStorage", prefix: str) -> None:
    """Delete the studies whose names begin so: those of earlier attempts, and what still works at them ends."""
    import optuna

    for name in optuna.get_all_study_names(storage):
        if name.startswith(prefix):
            optuna.delete_study(study_name=name, storage=storage)
