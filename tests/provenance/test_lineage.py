"""Lineage followed from manifest to manifest."""

from pathlib import Path

from ml_assets.provenance.lineage import code_behind
from resources.lake import Lake
from tests.builders import frame, put


def test_the_code_behind_an_artifact_is_that_of_all_it_was_made_from(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    raw = put(lake, frame(1), asset="raw", partition="2013-01-05", code_version="landing").ref
    middle = [
        put(lake, frame(n), asset="middle", partition=day, code_version="recent", inputs=(raw,)).ref
        for n, day in enumerate(("2013-01-04", "2013-01-05"))
    ]
    mart = put(lake, frame(9), asset="mart", partition="2013-01-05", code_version="join", inputs=(raw, *middle)).ref

    assert {"raw": "landing", "middle": "recent", "mart": "join"} == code_behind(lake, mart)
