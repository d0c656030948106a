"""The challengers of a model that are in shadow: those that were not promoted, and can score the current features.

Not here: which of the log's challengers these are (see `ml_assets.logic.promotion.log`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ml_assets.lake.ledger import StepLedger
from ml_assets.logic.promotion.log import shadowed
from ml_assets.models.champions import Champion, model_of, why_it_cannot_serve
from ml_assets.models.evaluation import Versioned
from ml_assets.models.plan import ModelPlan


@dataclass(frozen=True)
class InShadow:
    """The challengers in shadow, the newest first.

    Attributes:
        left_out: by version, why a challenger cannot score: it is missing or damaged, its inputs have changed, or it
            gives its golden rows other scores than when it was trained.
    """

    challengers: tuple[Versioned, ...]
    left_out: Mapping[str, str]

    @property
    def words(self) -> str:
        """The challengers as text."""
        if not (self.challengers or self.left_out):
            return "No challenger was rejected, or waits for approval, since the last promotion."
        scored = ", ".join(it.version for it in self.challengers) or "no challenger"
        left_out = "".join(f" {version} is left out: {why}" for version, why in self.left_out.items())
        return f"In shadow: {scored}.{left_out}"


def challengers_in_shadow(ledger: StepLedger, plan: ModelPlan, champion: Champion) -> InShadow:
    """Return the challengers in shadow by the log that names the champion, and record them in the step's manifests.

    Raises:
        CorruptArtifactError: the promotion log is damaged.
    """
    entries = plan.promotion_log(ledger.lake).entries()[: champion.entry.number]
    versions = shadowed(entries, most=plan.declaration.challengers.most)
    reasons = {it: " ".join(why_it_cannot_serve(ledger.lake, plan, it)) for it in versions}
    left_out = {version: why for version, why in reasons.items() if why}
    ledger.note(challengers=[*versions], left_out_challengers={**left_out})
    models = [Versioned(it, model_of(ledger, plan, it)) for it in versions if it not in left_out]
    return InShadow(tuple(models), left_out)
