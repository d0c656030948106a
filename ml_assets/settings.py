"""What is set from outside: profile, lake, server, alerts. What was declared counts, else the environment.

How to get into the lake stays out, see `ml_assets.lake.objects`; so do secrets, which only their users read, and
whether all that production needs is there, see `ml_assets.doctor.production`.
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
    """What is set from outside is missing or malformed; the message never holds a secret."""


def profile() -> Profile:
    """Return where this process runs: `ML_ASSETS_PROFILE`, else `local`.

    Raises:
        SettingsError: there is no such profile.
    """
    given = os.environ.get(PROFILE, "").strip() or "local"
    known: tuple[Profile, ...] = get_args(Profile)
    for one in known:
        if given == one:
            return one
    near = get_close_matches(given, known, n=1)
    raise SettingsError(
        f"{PROFILE} is '{given[:20]}'; expected {' or '.join(known)}"
        + (f", did you mean '{near[0]}'?" if near else ".")
        + " Without it the profile is local."
    )


def lake_url(declared: str = "") -> str:
    """Return the lake's address: the one declared, else `ML_ASSETS_LAKE`, else the project's folder `.lake`.

    Raises:
        SettingsError: it is not set in production: a folder of a pod is gone with the pod.
        ProjectError: it is not set, and there is no project.
    """
    if found := declared or os.environ.get(LAKE):
        return found
    if profile() == "production":
        raise SettingsError(f"{LAKE} is not set; expected s3://bucket/prefix. Set it to this deployment's lake.")
    return str(find_project().lake)


def alert_setting(name: str, declared: str = "") -> str:
    """Return a setting of the alerts: the one declared, else `ML_ASSETS_ALERT_<name>`, else nothing."""
    return declared or os.environ.get(f"ML_ASSETS_ALERT_{name}", "").strip()


def server_url(given: str = "") -> str:
    """Return the Dagster server that launches a command's runs: the one given, else `ML_ASSETS_SERVER`, else none.

    Raises:
        SettingsError: there is none in production, where a run in the command's own process would get no pods.
    """
    found = given or os.environ.get(SERVER, "").strip()
    if not found and profile() == "production":
        raise SettingsError(
            f"no Dagster server was given; expected --server URL or {SERVER}, so that the runs get the pods that are "
            "declared. In a cluster it is the webserver's service, such as http://dagster-webserver."
        )
    return found
