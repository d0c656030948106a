"""Where the lake is: what was declared, else the environment, else a folder beside this code.

How to get in there stays out; see `resources.objects`.
"""

import os
from pathlib import Path


def lake_url(declared: str = "") -> str:
    """Return the lake's address: the one declared, else `ML_ASSETS_LAKE`, else the folder `.lake` beside this code."""
    return declared or os.environ.get("ML_ASSETS_LAKE") or str(Path(__file__).resolve().parent.parent / ".lake")
