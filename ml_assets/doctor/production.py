"""What production needs from outside: everything that is missing or malformed is told at once, before work begins.

Nothing is connected to: whether what is set works is for `ml-assets doctor` to say.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ml_assets.settings import LAKE, PROFILE, SettingsError, profile

SHARED: Final = "ML_ASSETS_LAKE_IS_SHARED"
_DBT_MEMORY: Final = "ML_ASSETS_DBT_MEMORY"
_STORAGES: Final = ("run_storage", "schedule_storage", "event_log_storage")
_OURS: Final = "ml_assets.dagster_storage.event_log_postgres"


def require_settings(*, instance: bool = True) -> None:
    """Make sure that all that the profile needs is set; locally that is nothing.

    Args:
        instance: whether this process opens Dagster's instance itself; a code location gets it from who asks it, so
            there `dagster.yaml` is looked at only if it is there.

    Raises:
        SettingsError: something is missing or malformed; all of it is told.
    """
    if profile() != "production":
        return
    problems = tuple(production_problems(instance=instance))
    if problems:
        count = f"{len(problems)} settings are" if len(problems) > 1 else "1 setting is"
        raise SettingsError(
            f"{PROFILE}=production cannot start: {count} missing or malformed.\n"
            + "\n".join(f"- {problem}" for problem in problems)
        )


def production_problems(*, instance: bool = True) -> Iterator[str]:
    """Yield what is missing or malformed for production, each with its mend; never a value that may be secret."""
    yield from _lake(os.environ)
    yield from _credentials(os.environ)
    yield from _dagster(os.environ, instance=instance)
    yield from _numbers(os.environ)
    yield from _alerts()
    yield from _prices()
    yield from _studies()


def _lake(given: Mapping[str, str]) -> Iterator[str]:
    url, shared = given.get(LAKE, ""), given.get(SHARED, "").strip().lower()
    if shared not in {"", "true", "false"}:
        yield f"{SHARED} is neither true nor false. Say true only where {LAKE} is a folder that every pod mounts."
    if not url:
        yield f"{LAKE} is not set; expected s3://bucket/prefix. Set it to this deployment's lake."
    elif url.startswith("s3://"):
        bucket = url.removeprefix("s3://").split("/")[0]
        if "@" in url:
            yield (
                f"{LAKE} carries credentials; expected s3://bucket/prefix alone. Give them by the usual AWS chain, and "
                "change those that stood here."
            )
        elif not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
            yield f"{LAKE} names no bucket that S3 allows; expected s3://bucket/prefix with a name of 3 to 63 letters."
    elif "://" in url and not url.startswith("file://"):
        yield f"{LAKE} begins with '{url.partition('://')[0][:10]}://'; expected s3://bucket/prefix."
    elif shared != "true":
        yield (
            f"{LAKE} is a folder; expected s3://bucket/prefix. Where it is one that every pod mounts and that knows "
            f"exclusive create, say so with {SHARED}=true."
        )
    elif not url.removeprefix("file://").startswith("/"):
        yield f"{LAKE} is not a whole path; expected the folder as every pod mounts it, such as /mnt/lake."


def _credentials(given: Mapping[str, str]) -> Iterator[str]:
    """Yield what is half set of the usual AWS chain; that nothing is set is well where the machine has a role."""
    for one, other in (
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
    ):
        if given.get(one) and not given.get(other):
            yield f"{one} is set and {other} is not; expected both, or neither. Set {other}, or take {one} away."
    token = given.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    if token and not Path(token).is_file():
        yield "AWS_WEB_IDENTITY_TOKEN_FILE names no file. Mount the service account's token there, or unset it."
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        if url := given.get(name):
            yield from _endpoint(name, url)


def _endpoint(name: str, url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        yield f"{name} is no address; expected http(s)://host:port."
    elif "@" in parts.netloc:
        yield f"{name} carries credentials; expected http(s)://host:port alone. Give them by the usual AWS chain."


def _dagster(given: Mapping[str, str], *, instance: bool) -> Iterator[str]:
    home = given.get("DAGSTER_HOME", "")
    settings = Path(home) / "dagster.yaml"
    if not (home and settings.is_file()):
        if instance and not home:
            yield "DAGSTER_HOME is not set; expected the folder of this deployment's dagster.yaml. Set it."
        elif instance:
            yield f"DAGSTER_HOME has no dagster.yaml ({settings}); expected one whose storage is Postgres. Mount it."
        return
    import yaml

    try:
        said = yaml.safe_load(settings.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError:  # its message quotes the file, and a password may stand there
        yield f"{settings} is not YAML. Mend it; `dagster instance info` says where it breaks off."
        return
    if not isinstance(said, Mapping):
        yield f"{settings} is no mapping; expected Dagster's settings, with Postgres as storage."
        return
    if not Path(home).is_absolute():
        yield "DAGSTER_HOME is not a whole path, and Dagster wants one. Begin it with /."
    if local := [name for name in _STORAGES if not _is_postgres(said, name)]:
        yield (
            f"{settings} does not keep {', '.join(local)} in Postgres; expected all three there. A database on a pod's "
            f"disk is gone with the pod: name Dagster's classes, and {_OURS} for event_log_storage."
        )
    read = {*_variables([said.get(name) for name in ("storage", *_STORAGES)])}
    if unset := sorted(name for name in read if not given.get(name)):
        yield f"{settings} reads {', '.join(unset)} from the environment, and there is none. Set it, from a secret."


def _is_postgres(settings: Mapping[str, Any], storage: str) -> bool:
    whole = settings.get("storage")
    if isinstance(whole, Mapping):
        return "postgres" in whole
    one = settings.get(storage)
    module = str(one.get("module", "")) if isinstance(one, Mapping) else ""
    return module.split(".")[0] == "dagster_postgres" or module == _OURS


def _variables(said: object) -> Iterator[str]:
    """Yield the environment variables that a part of `dagster.yaml` reads."""
    if isinstance(said, Mapping):
        if set(said) == {"env"}:
            yield str(said["env"])
        else:
            yield from _variables([*said.values()])
    elif isinstance(said, list):
        for value in said:
            yield from _variables(value)


def _numbers(given: Mapping[str, str]) -> Iterator[str]:
    if (size := given.get("DAGSTER_EVENT_BATCH_SIZE")) is not None and not size.strip().isdecimal():
        yield "DAGSTER_EVENT_BATCH_SIZE is no whole number; expected one such as 500."
    if (memory := given.get(_DBT_MEMORY)) is not None and not re.fullmatch(r"\d+(\.\d+)? ?[KMGT]i?B", memory):
        yield f"{_DBT_MEMORY} is no size that DuckDB knows; expected one such as 4GB."


def _alerts() -> Iterator[str]:
    """Yield what is malformed of the alerts; none need be set."""
    from ml_assets.alerts.resource import Alerts
    from ml_assets.lake.resource import LakeResource

    yield from Alerts(lake=LakeResource()).problems()


def _prices() -> Iterator[str]:
    """Yield what is malformed of the prices; none need be set."""
    from ml_assets.provenance.prices import read_prices

    try:
        read_prices()
    except SettingsError as error:
        yield str(error)


def _studies() -> Iterator[str]:
    """Yield what is malformed of where tuning workers meet; only they need it."""
    from ml_assets.workers.studies import studies_url

    try:
        studies_url()
    except SettingsError as error:
        yield str(error)
