"""Call a gate rule that is a person's function of a challenger's evaluation.

Not here: its result (see `ml_assets.contracts.gate_result`), and the other rules (see
`ml_assets.logic.promotion.gate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.dotted_name import find_function, is_finite_number
from ml_assets.contracts.errors import FAILURES, DataError, failure_words
from ml_assets.contracts.gate_result import GateResult
from ml_assets.logic.promotion.comparisons import GateRule


def own_rule(name: str, evaluation: Evaluation) -> GateRule:
    """Return the result of the rule with a dotted name. The function gets a copy, so it changes nothing.

    Raises:
        DataError: the function failed, or did not return a `GateResult` with a sentence and finite figures. Then
            nothing is decided.
    """
    copy = Evaluation(
        evaluation.summary.model_copy(deep=True),
        evaluation.slices.clone(),
        evaluation.curves.clone(),
        evaluation.calibration.clone(),
    )
    try:
        found = find_function(name)(copy)
    except FAILURES as error:
        raise DataError(
            f"gate rule '{name}' failed: {failure_words(error)}. Nothing was decided, so nothing is promoted. Correct "
            "the function."
        ) from error
    if (problem := _problem(found)) is not None:
        raise DataError(
            f"gate rule '{name}' returned {problem}. Nothing was decided, so nothing is promoted. Expected "
            "ml_assets.GateResult(holds=True or False, sentence=text, figures={name: finite number})."
        )
    sentence = " ".join(found.sentence.split())
    return GateRule(
        name,
        holds=bool(found.holds),
        sentence=f"Rule {name}: {sentence}",
        figures={f"{name}: {figure}": float(value) for figure, value in found.figures.items()},
    )


def _problem(found: object) -> str | None:
    """Return what is wrong with the result of a rule; None if nothing is."""
    if not isinstance(found, GateResult):
        return f"{found!r:.100}, which is {type(found).__name__}"
    given: dict[str, Any] = vars(found)
    holds, sentence, figures = (given[name] for name in ("holds", "sentence", "figures"))
    if not isinstance(holds, bool | np.bool_):
        return f"holds={holds!r:.100}"
    if not isinstance(sentence, str) or not sentence.strip():
        return f"sentence={sentence!r:.100}"
    if isinstance(figures, Mapping) and all(isinstance(it, str) and it for it in figures):
        return None if all(map(is_finite_number, figures.values())) else f"figures={figures!r:.200}"
    return f"figures={figures!r:.200}"
