"""Names that must be unique in a code location. They have a prefix, so that they do not collide with a host project's.

A resource's key is the name of the parameter that receives it, so those parameters are named like these constants.
"""

from typing import Final

PREFIX: Final = "ml_assets_"

LAKE: Final = "ml_assets_lake"
IO_MANAGER: Final = "ml_assets_io_manager"
WAREHOUSE: Final = "ml_assets_warehouse"
ALERTS: Final = "ml_assets_alerts"

CAUSE: Final = "ml_assets/cause"
"""The tag of a run that names what requested it."""
MODEL: Final = "ml_assets/model"
"""The tag of a run that names the model it is for."""
MANAGED: Final = ("ml_assets/managed", "")
"""The tag, and its value, of every asset of the engine: sensors select these assets and leave a host's alone."""


def prefixed(name: str) -> str:
    """Return the name of a sensor, schedule, job or op of the engine."""
    return f"{PREFIX}{name}"
