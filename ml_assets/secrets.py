"""Secrets in addresses: passwords before a host, signatures and keys in a query. Light to import."""

import re
from typing import Final
from urllib.parse import unquote

# Up to the last '@': a password may hold any character, even '/' or '#'. Without a ':' or '@' before the first '/', an
# '@' is part of a path.
_USER: Final = re.compile(r"(?<=://)[^/?#\s@:]*(?:[:@]\S*@|@)")
_PARAMETERS: Final = re.compile(r"([?#&])(?=[^\s=]*=)(\S*)")
_ENDS: Final = "\"'),.:;>]}"
_NAME: Final = re.compile(
    r".*(token|secret|signature|pass(?!enger)|pwd|cred(?!it)|sessi|policy|hmac|ticket|bearer|jwt|hash"
    r"|auth(?!ors?$)|key(?!word)).*|sig(?!nif).*|.*sig|pw.*|.*pw|sas|sess|sid|code|accesscode|otp|pin"
)


def has_secret(address: str) -> bool:
    """Tell whether an address carries a user, or a parameter that by its name is a signature, a key or a token."""
    pieces = (piece.partition("=") for piece in re.split("[?&;#]", address)[1:])
    return bool(_USER.search(_without_blanks(address))) or any(value and _is_secret(name) for name, _, value in pieces)


def redacted(text: str) -> str:
    """Return a text with `***` in the place of users and of the values of all parameters of the addresses in it."""
    return _PARAMETERS.sub(_without_values, _USER.sub("***@", text))


def without_secret(address: str) -> str:
    """Return an address that carries no secret.

    Raises:
        ValueError: it carries one, which logs, manifests and the web UI would show; the message does not repeat it.
    """
    if has_secret(address):
        raise ValueError(
            f"'{redacted(_without_blanks(address))}' carries a secret, which logs, manifests and the web UI would "
            "show; give the address without it, and the credentials in the environment (of S3: AWS_ACCESS_KEY_ID or a "
            "role)"
        )
    return address


def _is_secret(name: str) -> bool:
    return bool(_NAME.fullmatch(re.sub("[^a-z0-9]", "", unquote(name).lower())))


def _without_values(parameters: re.Match[str]) -> str:
    """Return parameters with their names alone; a value may hold any character but '&'."""
    mark, text = parameters.groups()
    address = text.rstrip(_ENDS)
    pieces = [piece.partition("=") for piece in address.split("&")]
    return mark + "&".join(f"{name}=***" if equals else "***" for name, equals, _ in pieces) + text[len(address) :]


def _without_blanks(address: str) -> str:
    return re.sub(r"\s", "%20", address)
