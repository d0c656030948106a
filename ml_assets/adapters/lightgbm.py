"""Private names of LightGBM."""

from typing import Final

from lightgbm.libpath import (
    _LIB,  # LightGBM's library, which is linked with its OpenMP library
)

LIBRARY: Final = "lightgbm"
CHECKED: Final = "4.7.0"
MEMBERS: Final[dict[str, str]] = {}
