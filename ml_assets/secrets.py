"""Finds and removes secrets in addresses: passwords before a host, signatures and keys in a query. Light to import."""

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
    """Return whether an address contains a user, or a parameter whose name suggests a signature, a key or a token."""
    pieces = (piece.partition("=") for piece in re.split("[?&;#]", address)[1:])
    return bool(_USER.search(_without_blanks(address))) or any(value and _is_secret(name) for name, _, value in pieces)


def redact(text: str) -> str:
    """Return a text whose addresses have `***` instead of users and of the values of parameters."""
    return _PARAMETERS.sub(_without_values, _USER.sub("***@", text))


def without_secret(address: str) -> str:
    """Return an address after checking that it contains no secret.

    Raises:
        ValueError: it contains a secret, which logs, manifests and the UI would show. The message does not repeat it.
    """
    if has_secret(address):
        raise ValueError(
            f"'{redact(_without_blanks(address))}' contains a secret, which logs, manifests and the web UI would "
            "show. Remove it from the address, and provide the credentials through the environment (for S3: "
            "AWS_ACCESS_KEY_ID or a role)"
        )
    return address


def _is_secret(name: str) -> bool:
    return bool(_NAME.fullmatch(re.sub("[^a-z0-9]", "", unquote(name).lower())))


def _without_values(parameters: re.Match[str]) -> str:
    """Return parameters without their values. A value may contain any character except '&'."""
    mark, text = parameters.groups()
    address = text.rstrip(_ENDS)
    pieces = [piece.partition("=") for piece in address.split("&")]
    return mark + "&".join(f"{name}=***" if equals else "***" for name, equals, _ in pieces) + text[len(address) :]


def _without_blanks(address: str) -> str:
    return re.sub(r"\s", "%20", address)
