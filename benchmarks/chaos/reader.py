"""Read one thing that may be hostile, as the project reads it; 2 where it is refused.

python -m benchmarks.chaos.reader model|yaml|source WHAT LAKE
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from ml_assets.cli.console.problems import KNOWN
from ml_assets.contracts.artifacts.training import Model
from ml_assets.lake.store import Lake
from ml_assets.logic.training.booster import predict
from tests.killing import MODEL, PREDICTED


def main(arguments: Sequence[str]) -> int:
    """Read it."""
    kind, what, lake = arguments
    try:
        {"model": _score, "yaml": _declare, "source": _fetch}[kind](what, Lake(lake))
    except KNOWN as error:
        print(error)
        return 2
    return 0


def _score(what: str, lake: Lake) -> None:
    """Score a day with a model's text."""
    model: Model = lake.get(lake.find(f"{MODEL}/model"), Model)
    rows: pl.DataFrame = lake.get(lake.find(f"{MODEL}/features", PREDICTED), pl.DataFrame)
    predict(replace(model, booster=Path(what).read_text(encoding="utf-8")), rows)


def _declare(what: str, _: Lake) -> None:
    """Read a declaration, where the project would."""
    import shutil
    import tempfile

    from ml_assets.declaration.reading import read_all

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "one").mkdir()
        shutil.copy(what, Path(folder) / "one" / "defs.yaml")
        read_all(Path(folder))


def _fetch(what: str, _: Lake) -> None:
    """Read a file of two columns."""
    from ml_assets.landing.sources import Source

    source = Source(what, {"id": pl.Int64(), "note": pl.String()})
    source.frame(source.content())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
