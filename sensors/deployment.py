"""The sensors and schedules that this deployment runs; delete one here to run without it."""

from sensors.alerts import alerts
from sensors.arrivals import arrivals
from sensors.drift import drift
from sensors.overview import overview
from sensors.performance import performance
from sensors.schedules import garbage_collection, landing, reproduction, retraining
from sensors.updates import updates
from sensors.watch import drill, watch

SENSORS = (
    arrivals, updates, drift, performance, watch, alerts, overview, landing, retraining, reproduction, drill,
    garbage_collection,
)  # fmt: skip
