"""Tables with planted leaks, and honest ones, for the tests of the inspection."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl

START = datetime(2024, 1, 1)  # noqa: DTZ001


def orders(rows: int = 4_000) -> pl.DataFrame:
    """Return orders of 400 customers over 100 days, in the order of time, and whether each was returned."""
    random = np.random.default_rng(0)
    minutes = np.sort(random.choice(100 * 1440, rows, replace=False))
    customer = random.integers(0, 400, rows)
    amount = random.gamma(2, 40, rows).round(2)
    returned = random.random(rows) < 0.05 + 0.3 * (customer % 5 == 0) + 0.15 * (amount > 120)
    return pl.DataFrame(
        {
            "at": [START + timedelta(minutes=int(it)) for it in minutes],
            "order_id": random.permutation(rows),
            "customer": customer,
            "amount": amount,
            "tier": np.where(customer % 5 == 0, "gold", "basic"),
            "returned": returned,
        }
    )


def demand(hours: int = 24 * 200) -> pl.DataFrame:
    """Return an autoregressive demand by hour."""
    random = np.random.default_rng(0)
    noise = np.zeros(hours)
    for hour in range(1, hours):
        noise[hour] = 0.8 * noise[hour - 1] + random.normal(0, 30)
    hour = np.arange(hours)
    load = (1000 + 200 * np.sin(hour % 24 / 24 * 2 * np.pi) + noise).round(2)
    return pl.DataFrame({"at": [START + timedelta(hours=int(it)) for it in hour], "hour": hour % 24, "load": load})


def searches(queries: int = 300, rows: int = 10) -> pl.DataFrame:
    """Return hotels that searches found. The best has grade 2, the next two 1: near and cheap ones, mostly."""
    draw, size = np.random.default_rng(0), queries * rows
    search = np.repeat(np.arange(queries), rows)
    price, distance, stars = draw.gamma(3, 30, size), draw.exponential(2, size), draw.integers(1, 6, size)
    country = np.array(["de", "fr", "us"])[draw.integers(0, 3, queries)][search]
    liking = 0.6 * stars * (country == "us") + 0.2 * stars - price / 100 - distance / 2 + draw.normal(size=size) / 2
    place = pl.col("liking").rank("ordinal", descending=True).over("search")
    grade = pl.when(place == 1).then(2).otherwise(place <= 3).cast(pl.Int64)
    relevance = pl.DataFrame({"search": search, "liking": liking}).select(grade).to_series()
    return pl.DataFrame(
        {
            "search_id": [f"s{it:04d}" for it in search],
            "price": price.round(2),
            "distance": distance.round(3),
            "stars": stars,
            "country": country,
            "relevance": relevance,
        }
    )


def visits(members: int = 300, days: int = 200) -> pl.DataFrame:
    """Return visits of a gym's members: who spent much, stayed long and booked by app comes back sooner."""
    random, found = np.random.default_rng(0), []
    for member in range(members):
        day = random.uniform(0, days / 2)
        while day < days:
            spent, minutes = random.gamma(2, 20), random.gamma(4, 12)
            channel = ("phone", "desk", "app")[random.integers(3)]
            at = START + timedelta(seconds=int(day * 86_400))
            found.append((f"M{member:03d}", at, round(spent, 2), int(minutes), channel))
            liking = 1.2 * (("phone", "desk", "app").index(channel) - 1) + (spent - 40) / 20 + (minutes - 48) / 16
            day += random.gamma(4, 1 / 4) * (3 + 20 / (1 + np.exp(2 * liking)))
    names = ["member_id", "visited_at", "spent", "minutes", "channel"]
    rows = pl.DataFrame(found, schema=names, orient="row").sort("visited_at", "member_id")
    return rows.with_columns(visit_id=pl.int_range(1, pl.len() + 1))
