"""Measurements, with the settings of the command. They must be made before LightGBM and Dagster are imported."""

import os

from ml_assets.machine.openmp import wait_briefly

wait_briefly()
os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "500")
