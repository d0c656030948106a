"""Private names of LightGBM."""

from typing import Final

from lightgbm.basic import (
    Booster,  # the model of a call for single rows
    _safe_call,  # raises LightGBM's error if a call of its library fails
)
from lightgbm.libpath import (
    _LIB,  # LightGBM's library, which is linked with its OpenMP library
)

LIBRARY: Final = "lightgbm"
CHECKED: Final = "4.7.0"
MEMBERS: Final = {"Booster._handle": "the model of a call for single rows"}
