"""What is set from outside: where the lake is, and the alerts: what was declared, else the environment.

How to get into the lake stays out, see `resources.objects`; so do secrets, which only their users read.
"""

import os
from pathlib import Path


def lake_url(declared: str = "") -> str:
    """Return the lake's address: the one declared, else `ML_ASSETS_LAKE`, else the folder `.lake` beside this code."""
    return declared or os.environ.get("ML_ASSETS_LAKE") or str(Path(__file__).resolve().parent.parent / ".lake")


def alert_setting(name: str, declared: str = "") -> str:
    """Return a setting of the alerts: the one declared, else `ML_ASSETS_ALERT_<name>`, else nothing."""
    return declared or os.environ.get(f"ML_ASSETS_ALERT_{name}", "").strip()
