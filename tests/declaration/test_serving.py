"""Which models have their requests monitored."""

import pytest

from ml_assets.declaration.model import ModelDeclaration
from tests.stages.shop import declaration


@pytest.mark.parametrize(
    ("changes", "has_requests"),
    [({}, False), ({"serving": {}}, True), ({"serving": {"sample": 0.5}}, True), ({"serving": {"log": False}}, False)],
)
def test_requests_are_monitored_if_serving_is_declared_and_they_are_stored(
    changes: dict[str, object], *, has_requests: bool
) -> None:
    declared = declaration(**changes)

    assert has_requests == declared.has_requests
    assert has_requests == declared.model_copy(update={"name": "other"}).has_requests


def test_a_model_that_does_not_declare_serving_does_not_either_in_a_copy_of_its_values() -> None:
    again = ModelDeclaration.model_validate(declaration().model_dump(mode="json"))

    assert not again.has_requests
