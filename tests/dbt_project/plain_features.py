"""The windowed features of a flight, row by row from the raw files and by their definitions alone.

No SQL and nothing of the project: an independent second opinion on `flight_features`.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

import numpy as np
import polars as pl

MINUTE = np.timedelta64(1, "m")
HOUR = np.timedelta64(60, "m")
NEVER = np.datetime64("2100-01-01T00:00")

Columns = dict[str, np.ndarray]


def times_of(flights: pl.DataFrame) -> Columns:
    """Return the raw columns that are needed, with the times at which each thing happened and could be known, UTC."""
    rows = flights.sort("time_hour", "minute", "carrier", "flight", "origin", "dest")
    scheduled = np.array(
        [np.datetime64(hour.removesuffix("Z"), "m") for hour in rows["time_hour"]], dtype="datetime64[m]"
    ) + rows["minute"].to_numpy().astype("timedelta64[m]")
    day = np.array(
        [np.datetime64(datetime(*each), "D") for each in rows.select("year", "month", "day").iter_rows()]  # noqa: DTZ001 - local days
    )

    def minutes(name: str) -> np.ndarray:
        return rows[name].fill_null(0).to_numpy().astype("timedelta64[m]")

    has_left, has_arrived = rows["dep_delay"].is_not_null().to_numpy(), rows["arr_delay"].is_not_null().to_numpy()
    left = np.where(has_left, scheduled + minutes("dep_delay"), NEVER)
    air = minutes("air_time").astype(np.int64)
    # The scheduled minutes from gate to gate: 30 to 89 more than in the air, and whole hours from the clocks' difference.
    clocks = (rows["sched_arr_time"] % 100 - rows["minute"]).to_numpy()
    longest = air + 89
    gate_to_gate = longest - (longest - clocks) % 60
    delays = minutes("arr_delay").astype(np.int64) - minutes("dep_delay").astype(np.int64)
    taken = np.maximum(air + 90, gate_to_gate + delays).astype("timedelta64[m]")
    arrived = np.where(has_arrived, scheduled + minutes("dep_delay") + taken, NEVER)
    cancelled = np.where(has_left, NEVER, scheduled + 180 * MINUTE)
    # What is known more than three days after the day of a flight counts in no window.
    too_late = (day + np.timedelta64(4, "D")).astype("datetime64[m]")
    return {
        "flight": rows["flight"].to_numpy(),
        **{name: rows[name].rank("dense").to_numpy() for name in ("carrier", "origin", "dest")},  # numbers compare faster
        "flight_id": rows.select(
            pl.format("{}_{}_{}_{}_{}", pl.date("year", "month", "day"), "carrier", "flight", "origin", "dest")
        ).to_series().to_numpy(),
        **{name: rows[name].cast(pl.Float64).to_numpy() for name in ("dep_delay", "arr_delay")},
        "day": day, "scheduled": scheduled, "waits_until": np.minimum(left, cancelled),
        "left": np.where(left < too_late, left, NEVER), "arrived": np.where(arrived < too_late, arrived, NEVER),
        "cancelled": np.where(cancelled < too_late, cancelled, NEVER),
    }  # fmt: skip


def windowed_features(times: Columns, row: int) -> dict[str, float | None]:
    """Return every feature that counts or averages other flights, for one flight."""
    first, last = np.searchsorted(times["scheduled"], times["scheduled"][row] + np.array([-40 * 24, 30]) * HOUR)
    times, row = {name: values[first:last] for name, values in times.items()}, row - int(first)
    asked_at = times["scheduled"][row] - 2 * HOUR

    def same(*names: str) -> np.ndarray:
        mask = np.ones(len(times["day"]), dtype=bool)
        for name in names:
            mask &= times[name] == times[name][row]
        return mask

    entities: Mapping[str, np.ndarray] = {
        "origin": same("origin"), "carrier": same("carrier"), "carrier_origin": same("carrier", "origin"),
        "destination": same("dest"), "route": same("origin", "dest"),
        "flight_number": same("carrier", "flight", "origin", "dest"),
    }  # fmt: skip
    measures: Mapping[str, Callable[[np.ndarray, np.timedelta64], float | None]] = {
        "departures": lambda of, back: int(happened(times["left"], asked_at, back, of).sum()),
        "arrivals": lambda of, back: int(happened(times["arrived"], asked_at, back, of).sum()),
        "departure_delay_minutes": lambda of, back: _mean(times["dep_delay"][happened(times["left"], asked_at, back, of)]),
        "arrival_delay_minutes": lambda of, back: _mean(times["arr_delay"][happened(times["arrived"], asked_at, back, of)]),
        "late_share": lambda of, back: _mean(times["arr_delay"][happened(times["arrived"], asked_at, back, of)] > 15),
        "cancelled_share": lambda of, back: _share(
            int(happened(times["cancelled"], asked_at, back, of).sum()),
            int(happened(times["left"], asked_at, back, of).sum()),
        ),
        "overdue": lambda of, back: int(
            (happened(times["scheduled"], asked_at, back, of) & (times["waits_until"] > asked_at)).sum()
        ),
    }  # fmt: skip
    windows = {"3h": 3 * HOUR, "24h": 24 * HOUR, "28d": 28 * 24 * HOUR}
    return {
        f"{entity}_{name}_{window}": measure(of, back)
        for entity, of in entities.items()
        for name, measure in measures.items()
        for window, back in windows.items()
    } | _schedule(times, row)


def happened(at: np.ndarray, asked_at: np.datetime64, back: np.timedelta64, of: np.ndarray) -> np.ndarray:
    return of & (at > asked_at - back) & (at <= asked_at)


def _schedule(times: Columns, row: int) -> dict[str, float | None]:
    at_origin = (times["day"] == times["day"][row]) & (times["origin"] == times["origin"][row])
    apart = times["scheduled"] - times["scheduled"][row]
    return {
        "origin_scheduled_departures_1h": int((at_origin & (np.abs(apart) <= 30 * MINUTE)).sum()),
        "origin_scheduled_departures_before_3h": int(
            (at_origin & (apart >= -3 * HOUR) & (apart <= np.timedelta64(0, "m"))).sum()
        ),
        "origin_scheduled_departures_day": int(at_origin.sum()),
        "carrier_scheduled_departures_day": int((at_origin & (times["carrier"] == times["carrier"][row])).sum()),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _share(some: int, others: int) -> float | None:
    return some / (some + others) if some + others else None
