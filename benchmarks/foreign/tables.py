"""Ten generated tables, each as another field would hand it over: its own names, formats, gaps and order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import polars as pl

START: Final = datetime(2023, 1, 2)  # noqa: DTZ001 - the tables have no zone
Random = np.random.Generator


@dataclass(frozen=True)
class ForeignTable:
    """A table of which nothing is declared.

    Attributes:
        rows: the table in its types; the file holds what `written` makes of it.
        target: the column to predict.
        key: the columns that identify a row, by their names in the dbt models; empty if nothing identifies one.
        time: the column of the prediction's time.
        honest: the columns that may be used.
        leaks: the planted leaks: the guards that may name each.
        separator: the delimiter of the file.
        written: returns the frame as it is written.
        positive: the value of the target whose probability is predicted.
    """

    rows: pl.DataFrame
    target: str
    key: Mapping[str, str]
    honest: tuple[str, ...]
    time: str | None = None
    leaks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    separator: str = ","
    written: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows
    positive: object = None


def moments(random: Random, rows: int, days: float) -> pl.Series:
    """Return sorted times within a number of days."""
    seconds = np.sort(random.random(rows) * days * 86_400).astype(np.int64)
    return pl.Series("at", seconds * 1_000_000).cast(pl.Duration("us")) + START


def chance(logit: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the probability of a logit."""
    return 1 / (1 + np.exp(-logit))  # type: ignore[no-any-return]


def with_gaps(random: Random, values: np.ndarray[Any, Any], share: float) -> pl.Series:
    """Return values of which a share is missing."""
    return pl.Series(values).to_frame("x").select(
        pl.when(pl.Series(random.random(len(values)) >= share)).then("x")
    ).to_series()  # fmt: skip


def visits(random: Random, rows: int) -> ForeignTable:
    """Return visits of patients, several of each: small and grouped, without a time."""
    patient = np.sort(random.integers(0, rows // 3, rows))
    age = random.integers(18, 95, rows // 3)[patient]
    frailty = random.normal(0, 0.8, rows // 3)[patient]
    pressure = (110 + 0.4 * age + random.normal(0, 14, rows)).round()
    hba1c = (5 + 0.02 * age + random.gamma(2, 0.5, rows)).round(1)
    smokes = random.random(rows // 3)[patient] < 0.3
    logit = -2.6 + 0.03 * (age - 50) + 0.5 * (hba1c - 6) + 0.9 * smokes + 0.02 * (pressure - 130) + frailty
    frame = pl.DataFrame({
        "Visit No.": random.permutation(rows) + 70_000, "Patient-ID": patient + 1, "Alter (Jahre)": age,
        "RR syst.": with_gaps(random, pressure, 0.08), "HbA1c %": hba1c, "smoker?": np.where(smokes, "ja", "nein"),
        "ward": random.choice(["A1", "A2", "Intensiv", "Chirurgie"], rows),
        "re-admitted": np.where(random.random(rows) < chance(logit), "yes", "no"),
    })  # fmt: skip
    honest = ("Alter (Jahre)", "RR syst.", "HbA1c %", "smoker?", "ward")
    return ForeignTable(frame, "re-admitted", {"Visit No.": "visit_no"}, honest, positive="yes")


def load(random: Random, rows: int) -> ForeignTable:
    """Return the load of a grid by hour, with the temperature and the load of two days before."""
    hour = np.arange(rows)
    clock, weekday, season = hour % 24, hour // 24 % 7, np.sin(hour / 8_766 * 2 * np.pi)
    temperature = 11 - 9 * season + 4 * np.sin((clock - 9) / 24 * 2 * np.pi)
    noise = np.zeros(rows)
    for n in range(1, rows):
        noise[n] = 0.95 * noise[n - 1] + random.normal(0, 14)
        temperature[n] += 0.9 * (temperature[n - 1] - temperature[n]) * 0.2 + random.normal(0, 1)
    daily = 160 * np.sin((clock - 8) / 24 * 2 * np.pi) + 60 * np.sin((clock - 5) / 12 * 2 * np.pi)
    megawatts = 1_200 + daily - 130 * (weekday > 4) + 11 * np.maximum(15 - temperature, 0) + noise
    megawatts += 14 * np.maximum(temperature - 20, 0)
    at = pl.Series([START + timedelta(hours=int(n)) for n in hour])
    frame = pl.DataFrame({
        "MTU (CET)": at, "forecast temp °C": temperature.round(1),
        "load_48h_ago": np.r_[[np.nan] * 48, megawatts[:-48]],
        "wind m/s": random.gamma(3, 1.6, rows).round(1), "Actual Total Load [MW]": megawatts.round(1),
    }).with_columns(pl.col("load_48h_ago").fill_nan(None).round(1))  # fmt: skip
    return ForeignTable(frame, "Actual Total Load [MW]", {"MTU (CET)": "mtu_cet"},
                        ("forecast temp °C", "load_48h_ago", "wind m/s"), "MTU (CET)")  # fmt: skip


def concrete(random: Random, rows: int) -> ForeignTable:
    """Return the strength of samples of a material: no time, and no key."""
    cement, water = random.uniform(100, 540, rows).round(1), random.uniform(120, 250, rows).round(1)
    slag = np.where(random.random(rows) < 0.45, 0, random.uniform(0, 350, rows)).round(1)
    age = random.choice([1, 3, 7, 14, 28, 56, 90, 180, 365], rows)
    ratio = (cement + 0.7 * slag) / water
    strength = 14 * ratio * np.log1p(age) / 3.4 + 0.02 * slag - 0.0001 * (slag - 150) ** 2 + random.normal(0, 3, rows)
    frame = pl.DataFrame({
        "Cement (kg/m^3)": cement, "Slag (kg/m^3)": slag, "Water (kg/m^3)": water, "Age [day]": age,
        "Plasticizer": random.gamma(2, 3, rows).round(1), "Lab": random.choice(["N", "S", "Ost"], rows),
        "Strength, MPa": np.maximum(strength, 1).round(2),
    })  # fmt: skip
    return ForeignTable(frame, "Strength, MPa", {}, tuple(frame.columns[:-1]))


def crops(random: Random, rows: int) -> ForeignTable:
    """Return fields of five crops with measurements of a satellite, over three years."""
    kinds = np.array(["barley", "maize", "rape seed", "sugar beet", "winter wheat"])
    crop = random.choice(5, rows, p=[0.15, 0.2, 0.12, 0.08, 0.45])
    at = moments(random, rows, 3 * 365).dt.date()
    season = np.cos((at.dt.ordinal_day().to_numpy() - 60 - 25 * crop) / 365 * 2 * np.pi)
    ndvi = 0.45 + 0.25 * season + 0.05 * np.sin(crop * 2.1) + random.normal(0, 0.09, rows)
    ndwi = 0.1 + 0.2 * season * (crop % 2) + random.normal(0, 0.1, rows)
    vv = -12 + 1.6 * np.sin(crop * 1.3) + random.normal(0, 1.2, rows)
    frame = pl.DataFrame({
        "field.id": random.permutation(rows), "acq date": at, "NDVI": ndvi.round(3),
        "NDWI": with_gaps(random, ndwi.round(3), 0.15), "S1 VV (dB)": vv.round(2),
        "soil type": random.choice(["loam", "clay", "sand", "peat"], rows), "elev_m": random.gamma(3, 60, rows).round(),
        "crop": kinds[crop],
    })  # fmt: skip
    honest = ("NDVI", "NDWI", "S1 VV (dB)", "soil type", "elev_m")
    return ForeignTable(frame, "crop", {"field.id": "field_id"}, honest, "acq date")


def claims(random: Random, rows: int) -> ForeignTable:
    """Return the costs of claims, of which a few are huge."""
    at, region = moments(random, rows, 900), random.choice(["North", "South", "East", "West"], rows)
    horsepower, driver = random.integers(40, 300, rows), random.integers(18, 85, rows)
    new_price = (8_000 + 150 * horsepower + random.gamma(2, 4_000, rows)).round(-2)
    kind = random.choice(["glass", "collision", "theft", "injury"], rows, p=[0.5, 0.35, 0.1, 0.05])
    scale = np.select([kind == "glass", kind == "collision", kind == "theft"], [6.0, 7.8, 9.0], 9.4)
    log = scale + 0.00002 * new_price + 0.25 * (driver < 25) + 0.15 * (region == "South")
    cost = np.exp(log + random.normal(0, 0.6, rows) + random.exponential(0.35, rows) * (kind == "injury") * 2)
    frame = pl.DataFrame({
        "Claim#": [f"CL-{n:07d}" for n in random.permutation(rows)], "Reported On": at, "Region": region,
        "Horse Power": horsepower, "Driver Age": driver, "List Price (EUR)": new_price, "Peril": kind,
        "Deductible": random.choice([0, 150, 300, 500], rows), "Cost (EUR)": cost.round(2),
    })  # fmt: skip
    honest = ("Region", "Horse Power", "Driver Age", "List Price (EUR)", "Peril", "Deductible")
    return ForeignTable(frame, "Cost (EUR)", {"Claim#": "claim"}, honest, "Reported On")


def payments(random: Random, rows: int) -> ForeignTable:
    """Return card payments of which one in 200 is a fraud."""
    at = moments(random, rows, 150)
    night = at.dt.hour().is_in([0, 1, 2, 3, 4]).to_numpy()
    amount, velocity = random.lognormal(3.4, 1.1, rows).round(2), random.poisson(1.2, rows)
    age = random.exponential(700, rows).round()
    country = random.choice(["DE", "FR", "US", "BR", "NG", "CN"], rows, p=[0.5, 0.2, 0.15, 0.06, 0.04, 0.05])
    logit = -6.3 + 0.45 * np.log(amount / 30) + 0.45 * velocity + 1.2 * night - 0.0015 * np.minimum(age, 1500)
    logit += np.select([country == "NG", country == "BR", country == "CN"], [1.9, 1.2, 0.9], 0.0)
    logit += 1.5 * (velocity > 3) * (amount > 100)
    frame = pl.DataFrame({
        "txn_id": random.permutation(rows) + 10**9, "txn_time": at, "amt": amount, "n_last_hour": velocity,
        "card age days": age, "ctry": country, "mcc": random.choice([5411, 5812, 4829, 7995, 5967], rows),
        "is_fraud": (random.random(rows) < chance(logit)).astype(np.int64),
    })  # fmt: skip
    honest = ("amt", "n_last_hour", "card age days", "ctry", "mcc")
    return ForeignTable(frame, "is_fraud", {"txn_id": "txn_id"}, honest, "txn_time", positive=1)


def loans(random: Random, rows: int) -> ForeignTable:
    """Return loans with German and American dates as text, decimal commas and semicolons."""
    at = moments(random, rows, 700).dt.truncate("1m")
    since = pl.Series(random.exponential(900, rows).astype(np.int64)) * 86_400_000_000
    customer_since = (at - since.cast(pl.Duration("us"))).dt.date()
    income, amount = random.lognormal(7.8, 0.4, rows).round(2), random.lognormal(8.8, 0.7, rows).round(2)
    age_days = since.to_numpy() / 86_400_000_000
    purpose = random.choice(["Auto", "Möbel", "Umschuldung", "Sonstiges"], rows)
    logit = (
        -2 + 0.8 * np.log(amount / income / 3) - 0.0008 * np.minimum(age_days, 2000) + 0.7 * (purpose == "Umschuldung")
    )
    frame = pl.DataFrame({
        "Antragsnr": [f"A{n}" for n in random.permutation(rows) + 100_000], "Antrag am": at,
        "customer since": customer_since, "Nettoeinkommen": income, "Kreditbetrag": amount, "Zweck": purpose,
        "Ausfall": np.where(random.random(rows) < chance(logit), "ja", "nein"),
    })  # fmt: skip

    def written(rows: pl.DataFrame) -> pl.DataFrame:
        comma = [
            pl.col(it).cast(pl.String).str.replace(".", ",", literal=True) for it in ("Nettoeinkommen", "Kreditbetrag")
        ]
        return rows.with_columns(
            pl.col("Antrag am").dt.strftime("%d.%m.%Y %H:%M"), pl.col("customer since").dt.strftime("%m/%d/%Y"), *comma
        )

    honest = ("customer since", "Nettoeinkommen", "Kreditbetrag", "Zweck")
    return ForeignTable(frame, "Ausfall", {"Antragsnr": "antragsnr"}, honest, "Antrag am", separator=";",
                        written=written, positive="ja")  # fmt: skip


def clicks(random: Random, rows: int) -> ForeignTable:
    """Return clicks on advertisements of 20,000 publishers, of which new ones appear every day."""
    at, publishers = moments(random, rows, 60), 20_000
    day = (np.arange(rows) / rows * 60).astype(np.int64)
    rank = np.minimum((random.pareto(0.9, rows) * 60).astype(np.int64), publishers - 1)
    fresh = random.random(rows) < 0.06
    publisher = np.where(fresh, publishers + day * 40 + random.integers(0, 40, rows), rank)
    quality = random.normal(0, 0.9, publishers + 60 * 40 + 40)
    position, size = random.integers(1, 7, rows), random.choice(["300x250", "728x90", "160x600"], rows)
    evening = at.dt.hour().is_between(18, 22).to_numpy()
    logit = -2.2 + quality[publisher] - 0.25 * position + 0.3 * evening + 0.3 * (size == "300x250")
    frame = pl.DataFrame({
        "imp": [f"i{n:x}" for n in random.permutation(rows) + 2**28], "ts": at,
        "publisher": [f"pub-{n:05d}.example" for n in publisher], "slot": position, "size": size,
        "clicked": random.random(rows) < chance(logit),
    })  # fmt: skip
    return ForeignTable(frame, "clicked", {"imp": "imp"}, ("publisher", "slot", "size"), "ts", positive=True)


def trips(random: Random, rows: int) -> ForeignTable:
    """Return the durations of trips by taxi: many rows."""
    at = moments(random, rows, 120)
    hour, weekday = at.dt.hour().to_numpy(), at.dt.weekday().to_numpy()
    zone, to = random.integers(1, 80, rows), random.integers(1, 80, rows)
    east, north = random.uniform(0, 20, 80), random.uniform(0, 20, 80)
    distance = np.hypot(east[zone] - east[to], north[zone] - north[to]) + random.gamma(2, 0.4, rows)
    rush = np.where((weekday < 6) & ((hour // 3 == 2) | (hour // 3 == 5)), 1.5, 1.0)
    minutes = (3 + 2.4 * distance * rush) * random.lognormal(0, 0.2, rows)
    frame = pl.DataFrame({
        "trip id": random.permutation(rows), "pickup_datetime": at, "PULocation": zone, "DOLocation": to,
        "trip_distance": distance.round(2), "passenger count": random.integers(1, 6, rows),
        "vendor": random.choice(["1", "2"], rows), "rain mm": random.gamma(0.3, 1, rows).round(1),
        "duration_min": minutes.round(2),
    })  # fmt: skip
    honest = ("PULocation", "DOLocation", "trip_distance", "passenger count", "vendor", "rain mm")
    return ForeignTable(frame, "duration_min", {"trip id": "trip_id"}, honest, "pickup_datetime")


def contracts(random: Random, rows: int) -> ForeignTable:
    """Return contracts that may be cancelled, with five planted leaks and honest columns that sound like leaks."""
    at = moments(random, rows, 400)
    tenure, fee = random.exponential(30, rows).round(), random.gamma(4, 12, rows).round(2)
    calls, plan = random.poisson(1.5, rows), random.choice(["S", "M", "L", "XL"], rows)
    final = random.integers(0, 30, rows)
    logit = -2.2 + 0.5 * calls - 0.02 * tenure + 0.012 * fee + 0.04 * final - 0.6 * (plan == "XL")
    gone = random.random(rows) < chance(logit)
    gone_at = at + pl.Series(random.integers(1, 40, rows) * 86_400_000_000).cast(pl.Duration("us"))
    frame = pl.DataFrame({
        "ContractID": random.permutation(rows) + 500_000, "Snapshot Time": at, "tenure_months": tenure,
        "monthly fee": fee, "support calls": calls, "plan": plan, "final_invoice_day": final,
        "postcode": random.integers(10_000, 10_060, rows), "actual_speed_mbit": random.gamma(3, 30, rows).round(1),
        "end date": pl.select(pl.when(pl.Series(gone)).then(gone_at)).to_series(),
        "exit survey": pl.select(pl.when(pl.Series(gone)).then(pl.Series(random.integers(1, 6, rows)))).to_series(),
        "state": np.where(gone, "inactive", "active"),
        "retention_score": (gone * 1.0 + random.normal(0, 0.28, rows)).round(3),
        "export file": [f"export_{n // 150:04d}.csv" for n in range(rows)],
        "Churn": np.where(gone, "Y", "N"),
    })  # fmt: skip
    leaks = {"end date": ("known later",), "exit survey": ("known later", "missing values"),
             "state": ("copy of the target",), "retention_score": ("golden feature",),
             "export file": ("marker of time",)}  # fmt: skip
    honest = (
        "tenure_months",
        "monthly fee",
        "support calls",
        "plan",
        "final_invoice_day",
        "postcode",
        "actual_speed_mbit",
    )
    return ForeignTable(frame, "Churn", {"ContractID": "contractid"}, honest, "Snapshot Time", leaks, positive="Y")


@dataclass(frozen=True)
class Entry:
    """A table of the list, with the number of rows that it has by default and with `--large`."""

    made: Callable[[Random, int], ForeignTable]
    rows: int
    large: int | None = None


TABLES: Final[Mapping[str, Entry]] = {
    "visits": Entry(visits, 600),
    "load": Entry(load, 8_760),
    "concrete": Entry(concrete, 1_500),
    "crops": Entry(crops, 6_000),
    "claims": Entry(claims, 12_000),
    "loans": Entry(loans, 9_000),
    "contracts": Entry(contracts, 15_000),
    "payments": Entry(payments, 100_000),
    "clicks": Entry(clicks, 120_000),
    "trips": Entry(trips, 200_000, 1_000_000),
}
