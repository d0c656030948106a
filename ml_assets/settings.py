"""Settings from environment variables: profile, lake, Dagster server, alerts. A declared value takes precedence.

Not here: access to the lake (see `ml_assets.lake.objects`), secrets (read where they are used), and the check that a
production environment is complete (see `ml_assets.doctor.production`).
"""

import os
from difflib import get_close_matches
from typing import Final, Literal, get_args

from ml_assets.project import find_project

Profile = Literal["local", "production"]
PROFILE: Final = "ML_ASSETS_PROFILE"
LAKE: Final = "ML_ASSETS_LAKE"
SERVER: Final = "ML_ASSETS_SERVER"


class SettingsError(RuntimeError):
    """A setting is missing or malformed. The message never contains a secret."""


def profile() -> Profile:
    """Return the profile of this process: `ML_ASSETS_PROFILE`, or `local` by default.

    Raises:
        SettingsError: the profile does not exist.
    """
    given = os.environ.get(PROFILE, "").strip() or "local"
    known: tuple[Profile, ...] = get_args(Profile)
    for one in known:
        if given == one:
            return one
    suggestions = get_close_matches(given, known, n=1)
    raise SettingsError(
        f"{PROFILE} is '{given[:20]}'; expected {' or '.join(known)}"
        + (f", did you mean '{suggestions[0]}'?" if suggestions else ".")
        + " The default is local."
    )


def lake_url(declared: str = "") -> str:
    """Return the lake's address: the declared one, else `ML_ASSETS_LAKE`, else the folder `.lake` of the project.

    Raises:
        SettingsError: it is not set in production, where a local folder is lost with its pod.
        ProjectError: it is not set, and no project was found.
    """
    if found := declared or os.environ.get(LAKE):
        return found
    if profile() == "production":
        raise SettingsError(f"{LAKE} is not set; expected s3://bucket/prefix. Set it to this deployment's lake.")
    return str(find_project().lake)


def alert_setting(name: str, declared: str = "") -> str:
    """Return an alert setting: the declared value, else `ML_ASSETS_ALERT_<name>`, else an empty string."""
    return declared or os.environ.get(f"ML_ASSETS_ALERT_{name}", "").strip()


def server_url(given: str = "") -> str:
    """Return the URL of the Dagster server that launches a command's runs, or an empty string if none is set.

    The argument takes precedence over `ML_ASSETS_SERVER`.

    Raises:
        SettingsError: it is not set in production. A run in the command's own process would get no pods.
    """
    found = given or os.environ.get(SERVER, "").strip()
    if not found and profile() == "production":
        raise SettingsError(
            f"no Dagster server is set; expected --server URL or {SERVER}, so that each step runs in its declared pod. "
            "In a cluster, use the URL of the webserver's service, such as http://dagster-webserver."
        )
    return found
