"""A sensor of a host project with the name that one of the engine's would have without a prefix."""

import dagster as dg


@dg.op(name="drill")
def count() -> None: ...


@dg.job(name="reproduce")
def reproduce() -> None:
    count()


@dg.sensor(name="alerts", job=reproduce)
def nightly(lake: dg.ResourceParam[object]) -> dg.SkipReason:
    return dg.SkipReason(f"{lake} has nothing new.")
