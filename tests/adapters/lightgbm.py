"""Private names of LightGBM that only tests use; see `ml_assets.adapters`."""

from typing import Final

from lightgbm.basic import _ConfigAliases  # LightGBM's table of parameters and their aliases

LIBRARY: Final = "lightgbm"
CHECKED: Final = "4.7.0"
MEMBERS: Final = {"_ConfigAliases._get_all_param_aliases()": "reads that table"}
