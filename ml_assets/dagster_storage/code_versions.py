"""Code versions of two parts: an asset's own code and, after a dot, a digest of the code that trained its champion.

The second part belongs to the champion that was used, which may be older than the current code.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

CODE: Final = "code version"
"""The metadata key of a materialization that holds a code version of two parts."""


def joined_code(own: str, behind: str) -> str:
    """Return the code version of two parts."""
    return f"{own}.{behind}" if behind else own


def code_parts(version: str | None) -> tuple[str, str]:
    """Return an asset's own code version and the digest of the code that trained its champion; '' if there is none."""
    own, _, behind = (version or "").partition(".")
    return own, behind


def code_digest(versions: Iterable[str | None]) -> str:
    """Return a digest of code versions."""
    text = "\n".join(version or "" for version in versions).encode()
    return hashlib.blake2b(text, digest_size=8, usedforsecurity=False).hexdigest()
