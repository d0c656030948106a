"""Resources of a host project under the keys that the engine would use without a prefix."""

from pathlib import Path
from typing import Any, Final

import dagster as dg


class Other(dg.ConfigurableResource):
    """A resource that has nothing to do with the engine."""


class Files(dg.ConfigurableIOManager):
    """Stores values as text and notes what it was called for."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        with Path("stored.txt").open("a") as file:
            file.write(f"{context.asset_key.to_user_string()}={obj}\n")

    def load_input(self, context: dg.InputContext) -> Any:
        raise NotImplementedError(context.asset_key)


RESOURCES: Final = {"io_manager": Files(), "lake": Other(), "warehouse": Other(), "alerts": Other()}
