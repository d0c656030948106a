"""The `ml-assets` command, one file a command."""
