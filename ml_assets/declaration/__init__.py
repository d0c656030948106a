"""What the YAML under `ml_assets/defs` may say, typed and validated."""
