"""The confusion matrix of a binary model at its declared operating point."""

from __future__ import annotations

from dataclasses import dataclass

from ml_assets.contracts.artifacts.evaluation import EvaluationSummary


@dataclass(frozen=True)
class ConfusionCounts:
    """Test rows by their label and by whether they are acted on."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int


def confusion_counts(evaluation: EvaluationSummary | None) -> ConfusionCounts | None:
    """Return the counts that follow from precision, recall, the share of positives and the number of rows.

    None if they do not follow: rows are weighted, figures are means over folds, one of them is not measured, no
    positive row is acted on, or tied scores are acted on in part, so that the counts are not whole.
    """
    if evaluation is None or evaluation.weight is not None or evaluation.cross_validation is not None:
        return None
    precision, recall = evaluation.metrics.get("precision"), evaluation.metrics.get("recall")
    if precision is None or recall is None or evaluation.target_mean is None or not precision.value:
        return None
    positives = evaluation.target_mean * evaluation.rows
    hits = recall.value * positives
    acted = hits / precision.value
    if any(abs(count - round(count)) > _ROUNDING for count in (positives, hits, acted)):
        return None
    return ConfusionCounts(
        true_positives=round(hits),
        false_positives=round(acted) - round(hits),
        false_negatives=round(positives) - round(hits),
        true_negatives=evaluation.rows - round(positives) - round(acted) + round(hits),
    )


_ROUNDING = 1e-3
"""How far a count computed from shares may be from a whole number."""
