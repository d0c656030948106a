"""The types of a model's artifacts: records (JSON), frames (Parquet) and models as text.

Not here: reading and writing them (see `ml_assets.lake.io_manager`).
"""
