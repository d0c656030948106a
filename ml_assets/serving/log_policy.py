"""What the request log stores of each model, as the project's declarations say."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ml_assets.contracts.errors import DataError, near
from ml_assets.declaration.serving import ServingSettings
from ml_assets.serving.logged_rows import Hashing, hashed_names
from ml_assets.serving.logs import log_event
from ml_assets.serving.served_model import ServedModel

HASH_KEY: Final = "ML_ASSETS_HASH_KEY"
SHORTEST_KEY: Final = 16


@dataclass(frozen=True)
class LogPolicy:
    """What is stored of a model's requests.

    Attributes:
        sample: the share of the requests.
    """

    sample: float = 1.0
    hashing: Hashing = field(default_factory=Hashing)


def log_policies(models: Iterable[ServedModel], declared: Mapping[str, ServingSettings]) -> dict[str, LogPolicy]:
    """Return the policy of each model whose requests are stored.

    Without a key for hashes, columns of a row's key that are or may be personal are stored as null, and logged.

    Raises:
        DataError: a declared column is no input, the key is too short, or inputs are to be hashed and there is none.
    """
    key = os.fsencode(os.environ.get(HASH_KEY, "").strip())
    if 0 < len(key) < SHORTEST_KEY:
        raise DataError(f"{HASH_KEY} has {len(key)} bytes; expected a secret of {SHORTEST_KEY} or more. Set another.")
    found: dict[str, LogPolicy] = {}
    for served in models:
        settings = declared.get(served.name, ServingSettings())
        if not settings.log:
            continue
        hashing = Hashing(frozenset(settings.hash), key or None)
        for name in settings.hash:
            if name not in served.inputs.known:
                raise DataError(
                    f"serving.hash of model '{served.name}' names the column '{name}', which is no input of the served "
                    f"version{near(name, [*served.inputs.known])}. Correct it in the declaration."
                )
        only_of_key = {it.name for it in served.inputs.key_only} - {*settings.hash}
        hashed = [name for name in hashed_names(served, hashing) if name not in only_of_key]
        if hashed and not key:
            raise DataError(
                f"the request log of model '{served.name}' stores {', '.join(hashed)} as keyed hashes, and {HASH_KEY} "
                f"is not set; expected a secret of {SHORTEST_KEY} bytes or more. Set it, or pass --no-log."
            )
        if not key and (lost := only_of_key.intersection(hashed_names(served, hashing))):
            facts = {"model": served.name, "columns": sorted(lost), "setting": HASH_KEY}
            log_event("columns of the key are not stored in the request log, because they may be personal", facts)
        found[served.name] = LogPolicy(settings.sample, hashing)
    return found
