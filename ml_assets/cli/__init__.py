"""The `ml-assets` command, one file per command."""
