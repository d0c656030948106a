"""Checks that the settings of a production environment are complete and well-formed, and reports all problems at once.

Nothing is connected to. Whether the settings work is checked by `ml-assets doctor`.
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


def require_settings(*, instance: bool = True, dagster: bool = True) -> None:
    """Check that all settings of the profile are set. The local profile needs none.

    Args:
        instance: whether this process opens Dagster's instance itself. A code location receives the instance from its
            caller, so there `dagster.yaml` is checked only if it exists.
        dagster: whether this process uses Dagster at all.

    Raises:
        SettingsError: settings are missing or malformed. The message lists all of them.
    """
    if profile() != "production":
        return
    problems = tuple(production_problems(instance=instance, dagster=dagster))
    if problems:
        count = f"{len(problems)} settings are" if len(problems) > 1 else "1 setting is"
        raise SettingsError(
            f"{PROFILE}=production cannot start: {count} missing or malformed.\n"
            + "\n".join(f"- {problem}" for problem in problems)
        )


def production_problems(*, instance: bool = True, dagster: bool = True) -> Iterator[str]:
    """Yield missing and malformed settings of production, each with how to fix it, and never with a secret."""
    yield from _lake(os.environ)
    yield from _credentials(os.environ)
    if dagster:
        yield from _dagster(os.environ, instance=instance)
    yield from _numbers(os.environ)
    yield from _alerts()
    yield from _prices()
    yield from _studies()


def _lake(given: Mapping[str, str]) -> Iterator[str]:
    url, shared = given.get(LAKE, ""), given.get(SHARED, "").strip().lower()
    if shared not in {"", "true", "false"}:
        yield f"{SHARED} is neither true nor false. Set it to true only if {LAKE} is a folder that every pod mounts."
    if not url:
        yield f"{LAKE} is not set; expected s3://bucket/prefix. Set it to this deployment's lake."
    elif url.startswith("s3://"):
        bucket = url.removeprefix("s3://").split("/")[0]
        if "@" in url:
            yield (
                f"{LAKE} contains credentials; expected only s3://bucket/prefix. Provide them through the usual AWS "
                "chain, and replace those that were here."
            )
        elif not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
            yield f"{LAKE} has a bucket name that S3 does not allow; expected s3://bucket/prefix, 3 to 63 characters."
    elif "://" in url and not url.startswith("file://"):
        yield f"{LAKE} begins with '{url.partition('://')[0][:10]}://'; expected s3://bucket/prefix."
    elif shared != "true":
        yield (
            f"{LAKE} is a folder; expected s3://bucket/prefix. If every pod mounts it and its file system supports "
            f"exclusive create, set {SHARED}=true."
        )
    elif not url.removeprefix("file://").startswith("/"):
        yield f"{LAKE} is not an absolute path; expected the folder as every pod mounts it, such as /mnt/lake."


def _credentials(given: Mapping[str, str]) -> Iterator[str]:
    """Yield incomplete settings of the usual AWS chain. None need be set if the machine has a role."""
    for one, other in (
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
    ):
        if given.get(one) and not given.get(other):
            yield f"{one} is set and {other} is not; expected both, or neither. Set {other}, or unset {one}."
    token = given.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    if token and not Path(token).is_file():
        yield "AWS_WEB_IDENTITY_TOKEN_FILE is not a file. Mount the service account's token there, or unset it."
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        if url := given.get(name):
            yield from _endpoint(name, url)


def _endpoint(name: str, url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        yield f"{name} is not a URL; expected http(s)://host:port."
    elif "@" in parts.netloc:
        yield f"{name} contains credentials; expected http(s)://host:port. Provide them through the usual AWS chain."


def _dagster(given: Mapping[str, str], *, instance: bool) -> Iterator[str]:
    home = given.get("DAGSTER_HOME", "")
    settings = Path(home) / "dagster.yaml"
    if not (home and settings.is_file()):
        if instance and not home:
            yield "DAGSTER_HOME is not set; expected the folder of this deployment's dagster.yaml. Set it."
        elif instance:
            yield f"DAGSTER_HOME has no dagster.yaml ({settings}); expected a file whose storage is Postgres. Mount it."
        return
    import yaml

    try:
        content = yaml.safe_load(settings.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError:  # its message quotes the file, which may contain a password
        yield f"{settings} is not YAML. Fix it; `dagster instance info` shows the line."
        return
    if not isinstance(content, Mapping):
        yield f"{settings} is not a mapping; expected Dagster's settings, with Postgres as storage."
        return
    if not Path(home).is_absolute():
        yield "DAGSTER_HOME is not an absolute path, which Dagster requires. Start it with /."
    if local := [name for name in _STORAGES if not _is_postgres(content, name)]:
        yield (
            f"{settings} does not store {', '.join(local)} in Postgres; expected all three there. A database on a "
            f"pod's disk is lost with the pod. Use Dagster's classes, and {_OURS} for event_log_storage."
        )
    read = {*_variables([content.get(name) for name in ("storage", *_STORAGES)])}
    if unset := sorted(name for name in read if not given.get(name)):
        yield f"{settings} reads {', '.join(unset)} from the environment, but it is not set. Set it from a secret."


def _is_postgres(settings: Mapping[str, Any], storage: str) -> bool:
    whole = settings.get("storage")
    if isinstance(whole, Mapping):
        return "postgres" in whole
    one = settings.get(storage)
    module = str(one.get("module", "")) if isinstance(one, Mapping) else ""
    return module.split(".")[0] == "dagster_postgres" or module == _OURS


def _variables(content: object) -> Iterator[str]:
    """Yield the environment variables that a part of `dagster.yaml` reads."""
    if isinstance(content, Mapping):
        if set(content) == {"env"}:
            yield str(content["env"])
        else:
            yield from _variables([*content.values()])
    elif isinstance(content, list):
        for value in content:
            yield from _variables(value)


def _numbers(given: Mapping[str, str]) -> Iterator[str]:
    if (size := given.get("DAGSTER_EVENT_BATCH_SIZE")) is not None and not size.strip().isdecimal():
        yield "DAGSTER_EVENT_BATCH_SIZE is not a whole number; expected a number such as 500."
    if (memory := given.get(_DBT_MEMORY)) is not None and not re.fullmatch(r"\d+(\.\d+)? ?[KMGT]i?B", memory):
        yield f"{_DBT_MEMORY} is not a size that DuckDB accepts; expected a size such as 4GB."


def _alerts() -> Iterator[str]:
    """Yield malformed alert settings. None are required."""
    from ml_assets.alerts.settings import AlertSettings

    yield from AlertSettings().problems()


def _prices() -> Iterator[str]:
    """Yield malformed prices. None are required."""
    from ml_assets.provenance.prices import read_prices

    try:
        read_prices()
    except SettingsError as error:
        yield str(error)


def _studies() -> Iterator[str]:
    """Yield malformed settings of the tuning workers' database. Only they need it."""
    from ml_assets.workers.studies import studies_url

    try:
        studies_url()
    except SettingsError as error:
        yield str(error)
