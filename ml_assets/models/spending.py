"""Reads what a model has spent of its budget this month, from the manifests of its own artifacts.

Not here: whether spending blocks retrainings (see `ml_assets.logic.monitoring.budget`).
"""

from datetime import datetime

from ml_assets.declaration.budget import BudgetSettings
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.lake.manifests import Manifests
from ml_assets.logic.monitoring.budget import Spending
from ml_assets.provenance.cost import month_of, rows_of, spending, total_of
from ml_assets.provenance.prices import PRICES, Prices, read_prices
from ml_assets.settings import SettingsError


def read_spending(lake: Manifests, declared: ModelDeclaration, *, now: datetime) -> Spending | None:
    """Return what a model has spent this month; None if it has no budget.

    Only this month's manifests are read, some 10,000 a second from a disk.

    Raises:
        CorruptArtifactError: a manifest is damaged.
    """
    budget = declared.budget
    if budget is None:
        return None
    prices, why = (None, "") if budget.per_month is None else _prices()
    month = month_of(now)
    if why:
        return _beside(budget, month, None, "", why)
    total = total_of(rows_of(spending(lake, owner=declared.name, month=month), prices))
    if not total.artifacts + total.failed:
        return _beside(budget, month, 0.0, "CPU hours" if prices is None else prices.currency, "")
    if prices is None:
        why = "" if total.charged.cpu is not None else "no CPU time was measured."
        return _beside(budget, month, total.charged.cpu, "CPU hours", why)
    if not total.is_measured:
        why = "no cost was measured."
    elif total.money is None:
        why = "the price table has no price for a GPU that was used. Add it to gpu_hour."
    return _beside(budget, month, total.money, prices.currency, why)


def _prices() -> tuple[Prices | None, str]:
    """Return the prices, or why there are none. Unreadable prices stop no retraining and are reported."""
    try:
        found = read_prices()
    except SettingsError as error:
        return None, str(error)
    return found, "" if found else f"there are no prices. Set {PRICES}, or declare cpu_hours_per_month instead."


def _beside(budget: BudgetSettings, month: str, spent: float | None, unit: str, why: str) -> Spending:
    field = "cpu_hours_per_month" if budget.per_month is None else "per_month"
    amount = budget.per_month or budget.cpu_hours_per_month or 0.0
    return Spending(month, spent, amount, unit, f"budget.{field}", budget.when_exceeded == "block", why)
