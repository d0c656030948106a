"""What a model's budget makes of a retraining that is about to be asked for: nothing, a warning, or a wait.

What was spent stays out; see `ml_assets.provenance.cost`.
"""

from dataclasses import dataclass, replace

from ml_assets.logic.monitoring.retraining import Decision


@dataclass(frozen=True)
class Spending:
    """What a model has cost in a month, beside its budget.

    Attributes:
        month: such as `2013-04`.
        spent: None where nobody can tell.
        budget: what it may spend.
        unit: of both, such as CHF.
        field: where the budget is declared.
        blocks: whether a retraining waits where it is spent.
        unknown: why nobody can tell what was spent.
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
        """Whether the budget is spent; what nobody knows is not."""
        return self.spent is not None and self.spent >= self.budget

    @property
    def sentence(self) -> str:
        """What was spent, with figures, or why nobody can tell."""
        if self.spent is None:
            return f"{self.field} {self.budget:g} is not checked: {self.unknown}"
        return f"spent {self.spent:.2f} of {self.budget:.2f} {self.unit} in {self.month}"


def hold(decision: Decision, spending: Spending | None) -> Decision:
    """Return a decision as the budget leaves it.

    What asks waits where the budget is spent and blocks. Where it only warns, and where nobody can tell what was
    spent, it asks all the same and says so: what is unknown holds nothing back.
    """
    if spending is None or decision.asks is None or not (spending.is_over or spending.spent is None):
        return decision
    if spending.is_over and spending.blocks:
        return Decision(
            None,
            f"{decision.sentence} It waits: {spending.sentence}; next month, or raise {spending.field}.",
            is_held=True,
        )
    said = spending.sentence if spending.spent is None else f"It is asked for all the same: {spending.sentence}"
    return replace(decision, sentence=f"{decision.sentence} {said.rstrip('.')}.")
