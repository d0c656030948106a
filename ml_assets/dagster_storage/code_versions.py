"""Code versions in two parts: an asset's own code and, after a dot, a digest of the code that trained its champion.

The second part that is recorded is that of the champion which was used, not that of the code there is now.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

CODE_BEHIND: Final = "code_behind"
"""The note of a step that holds the second part for all that it makes."""
CODE: Final = "code version"
"""The metadata of a materialization that holds a code version of two parts."""


def joined_code(own: str, behind: str) -> str:
    """Return a code version of its parts."""
    return f"{own}.{behind}" if behind else own


def code_parts(version: str | None) -> tuple[str, str]:
    """Return an asset's own code and the digest of the code behind it; '' where there is none."""
    own, _, behind = (version or "").partition(".")
    return own, behind


def code_digest(versions: Iterable[str | None]) -> str:
    """Return a digest of code versions."""
    text = "\n".join(version or "" for version in versions).encode()
    return hashlib.blake2b(text, digest_size=8, usedforsecurity=False).hexdigest()
