"""Tests of what LightGBM is told: names it knows, and what may not be set."""

import pytest

from ml_assets.contracts.errors import ContractError
from ml_assets.logic.parameters import DEFAULTS, canonical_parameters, full_parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"learning_ratee": 0.1}, "'learning_ratee' is not known to LightGBM .did you mean 'learning_rate'"),
        ({"eta": 0.1, "learning_rate": 0.2}, "'learning_rate' is another name of 'learning_rate', which is given too"),
        ({"objective": "poisson"}, "'objective' follows from the declaration"),
        ({"n_estimators": 10}, "'n_estimators' follows from the declaration"),
        ({"random_state": 3}, r"seed=3 \(run with 7\)"),
    ],
)
def test_parameters_that_would_be_ignored_or_contradict_are_refused(parameters: dict[str, float], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        full_parameters("binary", parameters, seed=7, threads=1)


def test_an_alias_replaces_the_default_it_names() -> None:
    assert canonical_parameters({"eta": 0.3}) == {"learning_rate": 0.3}
    assert full_parameters("binary", {"eta": 0.3}, seed=1, threads=1)["learning_rate"] == 0.3
    assert canonical_parameters(DEFAULTS) == dict(DEFAULTS)
