"""SQL of moments (UTC) and of what clocks of a time zone show at them."""


def utc_sql(clock: str, timezone: str) -> str:
    """Return SQL of the moment at which clocks of a time zone show a time."""
    return clock if timezone == "UTC" else f"timezone('UTC', timezone('{timezone}', {clock}))"


def local_sql(moment: str, timezone: str) -> str:
    """Return SQL of what clocks of a time zone show at a moment."""
    return moment if timezone == "UTC" else f"timezone('{timezone}', timezone('UTC', {moment}))"


def day_of_sql(moment: str, timezone: str) -> str:
    """Return SQL of the day of a moment in a time zone."""
    return f"cast({local_sql(moment, timezone)} as date)"
