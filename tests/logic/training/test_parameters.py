"""LightGBM parameters: names that it knows, and those that may not be set."""

import pytest

from ml_assets.contracts.boosting_parameters import (
    DEFAULTS,
    DERIVED,
    SETTABLE,
    Conditions,
    canonical_parameters,
    full_parameters,
)
from ml_assets.contracts.errors import ContractError
from tests.adapters.lightgbm import _ConfigAliases


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"learning_ratee": 0.1}, r"'learning_ratee' is not a .* that can be set \(did you mean 'learning_rate'"),
        ({"eta": 0.1, "learning_rate": 0.2}, "'learning_rate' is an alias of 'eta', which is set too"),
        ({"boosting": "gbdt machines=10.0.0.1:80"}, "'boosting': expected letters, digits and .* without blanks"),
        ({"objective": "poisson"}, "'objective' follows from the declaration"),
        ({"n_estimators": 10}, "'n_estimators' follows from the declaration"),
        ({"random_state": 3}, r"seed=3 \(run with 7\)"),
    ],
)
def test_parameters_that_would_be_ignored_or_contradict_are_refused(parameters: dict[str, float], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        full_parameters("binary", parameters, Conditions(7))


OPEN_FILES_OR_SOCKETS = [
    "config", "convert_model", "data", "forcedbins_filename", "forcedsplits_filename", "input_model",
    "local_listen_port", "machine_list_filename", "machines", "num_machines", "output_model", "output_result",
    "parser_config_file", "save_binary", "snapshot_freq", "task", "valid",
]  # fmt: skip


def lightgbms_names() -> dict[str, list[str]]:
    """Return LightGBM's own table: by main name, its other names."""
    return {name: others[1:] for name, others in _ConfigAliases._get_all_param_aliases().items()}


def test_the_names_are_those_of_lightgbm() -> None:
    theirs, ours = lightgbms_names(), {**SETTABLE, **DERIVED}

    assert {name: {*theirs[name]} for name in ours} == {name: {*others} for name, others in ours.items()}


@pytest.mark.parametrize("main", OPEN_FILES_OR_SOCKETS)
def test_no_parameter_opens_a_file_or_a_socket(main: str) -> None:
    for name in (main, *lightgbms_names()[main]):
        with pytest.raises(ContractError, match=f"'{name}' is not a LightGBM parameter that can be set"):
            canonical_parameters({name: "x"})


def test_an_alias_replaces_the_default_it_names() -> None:
    assert canonical_parameters({"eta": 0.3}) == {"learning_rate": 0.3}
    assert full_parameters("binary", {"eta": 0.3}, Conditions(1))["learning_rate"] == 0.3
    assert canonical_parameters(DEFAULTS) == dict(DEFAULTS)
