"""Parses and formats Kubernetes quantities: `500m` cores, `4Gi` bytes.

Not here: which quantities a stage may declare (see `ml_assets.declaration.compute`).
"""

import re
from decimal import Decimal
from typing import Final

_NUMBER: Final = re.compile(r"(\d+(?:\.\d+)?)(.*)")
_BINARY: Final = {unit: 1024**power for power, unit in enumerate(("", "Ki", "Mi", "Gi", "Ti", "Pi"))}
_DECIMAL: Final = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}


def cores_of(text: str) -> Decimal:
    """Return a quantity as a number of cores.

    Raises:
        ValueError: it is not a number of cores.
    """
    number, unit = _parts(text)
    if unit not in {"", "m"}:
        raise ValueError(f"'{text}' is not a number of cores; expected a value such as 500m or 1.5")
    return number / 1000 if unit == "m" else number


def bytes_of(text: str) -> int:
    """Return a quantity as a number of bytes.

    Raises:
        ValueError: it is not a number of bytes.
    """
    number, unit = _parts(text)
    factor = {**_BINARY, **_DECIMAL}.get(unit)
    if factor is None:
        raise ValueError(f"'{text}' is not a number of bytes; expected a value such as 512Mi or 4Gi")
    return int(number * factor)


def bytes_text(count: int) -> str:
    """Return a number of bytes as the shortest exact quantity."""
    unit = next(unit for unit in reversed(_BINARY) if count % _BINARY[unit] == 0)
    return f"{count // _BINARY[unit]}{unit}"


def doubled(memory: str, *, times: int, ceiling: str) -> str:
    """Return an amount of memory doubled this many times, up to the ceiling."""
    return bytes_text(min(bytes_of(memory) * 2**times, bytes_of(ceiling)))


def _parts(text: str) -> tuple[Decimal, str]:
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text}' is not a quantity; expected a value such as 500m, 1.5 or 4Gi")
    return Decimal(found[1]), found[2]
