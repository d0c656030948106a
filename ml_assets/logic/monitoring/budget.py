"""How a model's budget changes the decision to retrain: not at all, with a warning, or by postponing it.

Not here: measuring what was spent (see `ml_assets.provenance.cost`).
"""

from dataclasses import dataclass, replace

from ml_assets.logic.monitoring.retraining import RetrainingDecision


@dataclass(frozen=True)
class Spending:
    """What a model has cost in a month, and its budget.

    Attributes:
        month: such as `2013-04`.
        unit: of both, such as CHF.
        blocks: whether a retraining is postponed above the budget.
    """

    month: str
    spent: float | None
    budget: float
    unit: str
    field: str
    blocks: bool
    unknown: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the budget is spent. False if the cost is unknown."""
        return self.spent is not None and self.spent >= self.budget

    @property
    def sentence(self) -> str:
        """What was spent, with figures, or why it is unknown."""
        if self.spent is None:
            return f"{self.field} {self.budget:g} is not checked: {self.unknown}"
        return f"spent {self.spent:.2f} of {self.budget:.2f} {self.unit} in {self.month}"


def hold(decision: RetrainingDecision, spending: Spending | None) -> RetrainingDecision:
    """Return a decision after the budget was considered.

    A retraining is postponed if the budget is spent and blocks. Otherwise a warning is added to the decision if the
    budget is spent or the cost is unknown.
    """
    if spending is None or decision.finding is None or not (spending.is_over or spending.spent is None):
        return decision
    if spending.is_over and spending.blocks:
        return RetrainingDecision(
            None,
            f"{decision.sentence} It is postponed to the next month: {spending.sentence}. To retrain now, raise "
            f"{spending.field}.",
            is_held=True,
        )
    warning = spending.sentence if spending.spent is None else f"It is requested nevertheless: {spending.sentence}"
    return replace(decision, sentence=f"{decision.sentence} {warning.rstrip('.')}.")
