"""One file a stage of the flow, each a thin factory of assets."""
