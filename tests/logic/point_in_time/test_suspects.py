from typing import Any

import pytest

from ml_assets.logic.inspection.lone_columns import LonePredictor
from ml_assets.logic.point_in_time.suspects import suspects

LONE = (
    LonePredictor("lag_25", 0.8, 0.1),
    LonePredictor("shop", 0.7, 0.1),
    LonePredictor("copy", 1.0, 0.1, is_copy=True),
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"cuts": 29, "history": ("lag_25", "copy")}, ["shop", "copy"]),
        ({"cuts": 28, "history": ("lag_25", "copy")}, ["lag_25", "shop", "copy"]),  # 0.9 ** 28 = 0.052
        ({"cuts": 50, "history": None}, ["lag_25", "shop", "copy"]),
        ({"cuts": 50, "history": ("lag_25",), "acknowledged": ("copy",)}, ["shop"]),
    ],
    ids=["cleared", "too few cuts", "not measured", "acknowledged"],
)
def test_a_rebuild_clears_columns_of_other_rows_but_no_copy(given: Any, expected: list[str]) -> None:
    assert expected == [it.column for it in suspects(LONE, **{"acknowledged": (), **given})]
