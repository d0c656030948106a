"""A version of a model compared with the champion, on days that are later than what both were trained and judged on.

Nothing is written. Not here: the gate's verdict on a challenger (see `ml_assets.stages.champion`).
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

from ml_assets.contracts.artifacts.evaluation import Comparison
from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.errors import DataError
from ml_assets.declaration.training_set import Split
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.store import Lake
from ml_assets.logic.evaluation.jackknife import MINIMUM_CLUSTERS
from ml_assets.logic.promotion.comparisons import Attempt, champion_rules
from ml_assets.logic.promotion.log import attempt_number
from ml_assets.models.evaluation import Versioned, measure_challenger
from ml_assets.models.plan import ModelPlan, newest_day
from ml_assets.models.training_rows import current_up_to, training_set_in
from ml_assets.notebook.artifacts import CHAMPION, artifact_of_version, open_lake, read_plan

_OTHER_SPLITS: Final = (
    "the split of '{name}' is 'by: {by}', so no rows are later than the training of its models; expected 'by: time'."
)


@dataclass(frozen=True, repr=False)
class VersionComparison:
    """A version of a model compared with the champion on the same later rows.

    Attributes:
        model: the model.
        version: the version that is compared.
        champion: the champion.
        days: the first and the last day of the rows.
        comparison: the deciding metric of the version (`challenger`) and of the champion (`other`); a `difference`
            above zero means that the version is better, for metrics of both directions.
        holds: whether the version passes the gate's rule about the champion on these rows.
        sentence: that rule with its figures.
    """

    model: str
    version: str
    champion: str
    days: tuple[date, date]
    comparison: Comparison
    holds: bool
    sentence: str

    def __repr__(self) -> str:
        return (
            f"{self.model}: {self.version} compared with champion {self.champion} on {self.comparison.rows:,} rows of "
            f"{self.days[0]} to {self.days[1]}, later than what either was trained and judged on.\n{self.sentence}"
        )


def compare_versions(
    model: str, version: str, *, as_of: str | date | None = None, lake: str | Lake | None = None
) -> VersionComparison:
    """Compare a version with the champion on the days after the as-of days of both, by the test of the gate.

    Such a version may have been rejected, or wait for approval. The rows are those of its features whose labels are
    known, and the test is that of the gate: the interval comes from leaving out one day at a time, and a declared group
    besides, and its confidence depends on the number of attempts on these rows. Nothing is written, neither to the lake
    nor to the promotion log.

    Args:
        model: the model, which the current project declares.
        version: the version or its first characters.
        as_of: the day by whose end a label must be known; the newest day of the features if absent.
        lake: the lake or its address; by default that of `ML_ASSETS_LAKE`, else the folder `.lake` of the project.

    Raises:
        DataError: there is no such version or no champion, they are the same, or there are too few later days.
    """
    day = None if as_of is None else date.fromisoformat(str(as_of))
    return comparison_of(open_lake(lake), read_plan(model), version, as_of=day)


def comparison_of(lake: Lake, plan: ModelPlan, version: str, *, as_of: date | None = None) -> VersionComparison:
    """Compare a version of a plan's model with its champion; see `compare_versions`."""
    declared, asset = plan.declaration, f"{plan.name}/model"
    if not declared.split.is_by_time:
        raise DataError(_OTHER_SPLITS.format(name=plan.name, by=declared.split.by))
    refs = [artifact_of_version(lake, asset, None, it) for it in (version, CHAMPION)]
    if refs[0] == refs[1]:
        raise DataError(f"version {refs[0].version} of '{plan.name}' is the champion; expected another version.")
    challenger, champion = (Versioned(it.version, lake.get(it, Model)) for it in refs)
    trained = max(it.model.spec.as_of for it in (challenger, champion))
    last = as_of or newest_day(lake.scan(current_up_to(lake, plan, "features")))
    later = (last - trained).days
    if later < MINIMUM_CLUSTERS:
        raise DataError(
            f"{max(later, 0)} days from {trained} (the later as-of day of the two versions) to {last} are too few to "
            f"compare {challenger.version} with champion {champion.version}; expected at least {MINIMUM_CLUSTERS}."
        )
    windows = declared.split.model_copy(update={"test_days": later})
    return _compared(lake, plan, challenger, champion, as_of=last, windows=windows)


def _compared(
    lake: Lake, plan: ModelPlan, challenger: Versioned, champion: Versioned, *, as_of: date, windows: Split
) -> VersionComparison:
    rows = training_set_in(lake, plan, as_of, split=windows)
    found = measure_challenger(plan, rows, challenger, champion=champion, anchor=None).summary
    days = found.test_days
    if found.against_champion is None or days is None:
        why = found.champion_cannot_score or "no rows are left that are new to both."
        raise DataError(f"{challenger.version} cannot be compared with champion {champion.version}: {why}")
    gate = plan.declaration.gate
    attempt = attempt_number(PromotionLog(lake, plan.name).verified().entries, challenger.version, days)
    [rule] = champion_rules(found, Attempt(attempt), gate.rule, gate.margin)
    return VersionComparison(
        plan.name, challenger.version, champion.version, days, found.against_champion, rule.holds, rule.sentence
    )
