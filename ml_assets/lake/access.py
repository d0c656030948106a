"""Access to a lake on S3, and how long requests are retried. Unset options come from the usual AWS chain.

Light to import. Not here: the requests (see `ml_assets.lake.s3`).
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Self
from urllib.parse import urlsplit

from ml_assets.lake.errors import LakeError

_FSSPEC: Final = {"key": "access_key_id", "secret": "secret_access_key", "token": "session_token"}


@dataclass(frozen=True)
class Patience:
    """How often and how long a request is retried.

    With these defaults, a server that refuses connections is given up after about 5 seconds, one that drops packets
    after 12, and one that accepts requests but never responds after 15.
    """

    attempts: int = 8
    seconds: float = 7.0  # counted from the first failure, so that a long transfer that fails late is retried
    first_wait: float = 0.1
    longest_wait: float = 2.0
    connect_timeout: float = 3.0
    read_timeout: float = 7.0

    def wait(self, attempt: int) -> float:
        """Return the seconds to wait after an attempt: doubled each time, with jitter against synchronized clients."""
        most = min(self.first_wait * 2.0 ** (attempt - 1), self.longest_wait)
        return most * random.uniform(0.5, 1)  # noqa: S311 - for spreading load, not for security


@dataclass(frozen=True)
class Access:
    """The address and credentials of an object store. Fields that are None come from the usual AWS chain.

    The chain is botocore's: environment, profiles, web identity, the machine's role.
    """

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    patience: Patience = Patience()
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Return the access that options describe. Names are the fields above, those of Patience, or those of s3fs.

        Raises:
            LakeError: the endpoint contains credentials, or only one half of a key pair was given.
        """
        given = {_FSSPEC.get(name, name): value for name, value in options.items()}
        client = dict(given.pop("client_kwargs", None) or {})
        if region := client.pop("region_name", None):
            given.setdefault("region", region)
        if client:
            given["client_kwargs"] = client
        own = {one.name: given.pop(one.name) for one in fields(Patience) if one.name in given}
        known = {one.name: given.pop(one.name) for one in fields(cls) if one.name in given}
        found = cls(**known, patience=Patience(**own), more=given)
        if "@" in urlsplit(found.endpoint_url or "").netloc:
            raise LakeError(
                "the endpoint_url of the lake contains credentials, which logs and errors would show. Provide them as "
                "access_key_id and secret_access_key, or through the usual AWS chain."
            )
        if (found.access_key_id is None) != (found.secret_access_key is None):
            raise LakeError(
                "the lake's options contain only one of access_key_id and secret_access_key; expected both, or "
                "neither to use the usual AWS chain."
            )
        return found

    def fsspec(self) -> dict[str, Any]:
        """Return the options of s3fs. Retries of s3fs and botocore are off, because `PatientS3` retries."""
        more = dict(self.more)
        config = {
            **more.pop("config_kwargs", {}),
            "connect_timeout": self.patience.connect_timeout,
            "read_timeout": self.patience.read_timeout,
            "retries": {"mode": "standard", "total_max_attempts": 1},
        }
        client = {**more.pop("client_kwargs", {}), **({"region_name": self.region} if self.region else {})}
        given = {
            "endpoint_url": self.endpoint_url,
            "key": self.access_key_id,
            "secret": self.secret_access_key,
            "token": self.session_token,
        }
        return {
            "use_listings_cache": False,
            **more,
            **{name: value for name, value in given.items() if value is not None},
            "client_kwargs": client,
            "config_kwargs": config,
            "patience": self.patience,
        }

    def polars(self) -> dict[str, str | int]:
        """Return polars' storage options."""
        patience = self.patience
        is_plain = (self.endpoint_url or "").startswith("http://")
        given: dict[str, str | int | None] = {
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
            "aws_session_token": self.session_token,
            "aws_region": self.region,
            "aws_endpoint_url": self.endpoint_url,
            "aws_allow_http": "true" if is_plain else None,
            "aws_skip_signature": "true" if self.more.get("anon") else None,
            "max_retries": patience.attempts - 1,
            "retry_timeout_ms": round(patience.seconds * 1000),
            "retry_init_backoff_ms": round(patience.first_wait * 1000),
            "retry_max_backoff_ms": round(patience.longest_wait * 1000),
            "connect_timeout": f"{patience.connect_timeout:g}s",
        }
        return {name: value for name, value in given.items() if value is not None}
