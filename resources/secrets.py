"""Secrets in addresses: passwords before a host, signatures and keys in a query. Light to import."""

import re
from typing import Final

_USER: Final = re.compile(r"(?<=://)[^/?#\s@'\"]*@(?:[^/?#\s@'\"]*@)*")
_PARAMETER: Final = re.compile(r"(?<=[?&;])([A-Za-z0-9_.~%-]+)=([^&;#\s'\"]*)")
_NAME: Final = re.compile(
    r"(?i)sig|code|jwt|sas|key|rlkey|.*(token|secret|signature|passw(or)?d|pwd|credentials?|authorization)"
    r"|(.*[-_.])?(auth|pass)|.*(api|access|account|subscription|shared)[-_]?key(id)?"
)


def has_secret(address: str) -> bool:
    """Tell whether an address carries a user, a signature, a key or a token."""
    return redacted(address) != address


def redacted(text: str) -> str:
    """Return a text with `***` in the place of what is secret in the addresses in it."""
    return _PARAMETER.sub(_without_value, _USER.sub("***@", text))


def _without_value(parameter: re.Match[str]) -> str:
    name, value = parameter.groups()
    return f"{name}=***" if value and _NAME.fullmatch(name) else parameter.group()


def without_secret(address: str) -> str:
    """Return an address that carries no secret.

    Raises:
        ValueError: it carries one, which logs, manifests and the web UI would show; the message does not repeat it.
    """
    if has_secret(address):
        raise ValueError(
            f"'{redacted(address)}' carries a secret, which logs, manifests and the web UI would show; give the "
            "address without it, and the credentials in the environment (of S3: AWS_ACCESS_KEY_ID or a role)"
        )
    return address
