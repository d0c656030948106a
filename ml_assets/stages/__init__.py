"""The stages of the flow, one file each, as thin factories of assets."""
