"""What `ml-assets trace` prints and how it ends; how lineage is followed is in tests/provenance."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

from ml_assets.contracts.decisions import Promotion
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.origin import Environment
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.sealing import seal
from ml_assets.lake.store import Lake
from tests.builders import promotion, put
from tests.cli.commands import Command
from tests.provenance.lakes import ENVIRONMENT, START, Chronicle, shop

TREE = """\
shop/model@{model}, the newest, because there is no champion
  created      2026-11-01 03:09:00 UTC by run run-2
  code         code-model at commit cccccccccccc
  environment  eeeeeeeeeeee: Python 3.11.7 on Linux, 2 distributions

upstream
shop/model                  @{model}, code code-mod
│    never champion or judged
└─ shop/training_set        @{training}, 20 rows, code code-g_s
   └─ shop/features         2026-10-01 … 2026-10-02, 2 days, 20 rows, code code-tur
      └─ tables/stg_orders  2026-10-01 … 2026-10-02, 2 days, 20 rows, dbt code code-rde
         ├─ raw/orders      2026-10-01 … 2026-10-02, 2 days, 20 rows
         │       2 codes: old (2026-10-01); code-rders (2026-10-02)
         │       2 environments: ffffffffffff (2026-10-01); eeeeeeeeeeee (2026-10-02)
         └─ raw/shops       @{shops}, 3 rows, code code-sho

sources
  orders.csv  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa  raw/orders
  shops.csv   bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb  raw/shops

commits
  cccccccccccc  all artifacts

environments
  eeeeeeeeeeee  Python 3.11.7 on Linux, 2 distributions  raw/orders 2026-10-02; raw/shops; shop/features; shop/model;
                                                         shop/training_set; tables/stg_orders
  ffffffffffff  Python 3.11.7 on Linux, 2 distributions  raw/orders 2026-10-01
                against eeeeeeeeeeee:                    numpy absent (2.4.6 there), polars 2.0.0 (2.1.0 there), pyarrow
                                                         26.0.1 (absent there)

runs
  run-2  2026-11-01 03:09:00  shop/model; shop/training_set
  run-1  2026-11-01 03:07:00  raw/orders; raw/shops; shop/features; tables/stg_orders
"""


@pytest.fixture
def chronicle(home: Path, monkeypatch: pytest.MonkeyPatch) -> Chronicle:
    """A lake of the shop, set as the command's lake; nothing else of the project can be found."""
    monkeypatch.delenv("DAGSTER_HOME")
    return shop(home / "lake")


def environment(chronicle: Chronicle, digest: str, **distributions: str) -> None:
    path = chronicle.root / "environments" / f"{digest}.json"
    path.parent.mkdir(exist_ok=True)
    record = Environment(
        digest=digest, python="3.11.7", implementation="CPython", platform="Linux", distributions=distributions
    )
    path.write_bytes(seal(record))


def promoted(chronicle: Chronicle, *entries: Promotion) -> None:
    for entry in entries:
        PromotionLog(chronicle.lake, entry.model).append(entry, number=entry.number)


def the(chronicle: Chronicle, asset: str) -> ArtifactRef:
    return next(ref for ref in chronicle.made if ref.asset == asset)


def remade(chronicle: Chronicle) -> None:
    """Let the first raw day be as older code in another environment had made it."""
    ref = the(chronicle, "raw/orders")
    shutil.rmtree(chronicle.folder(ref))
    shutil.rmtree(chronicle.root / "order" / ref.asset / str(ref.partition))
    chronicle.made = chronicle.made[:1]
    parameters = {"file": "orders.csv", "source": "a" * 32}
    chronicle.make(
        ref.asset, ref.partition, version=ref.version, code_version="old", environment="f" * 32, parameters=parameters
    )


def test_a_model_is_reported_as_a_tree_down_to_raw_files(chronicle: Chronicle, command: Command) -> None:
    names = {name: the(chronicle, f"shop/{name}").version[:12] for name in ("model", "training_set")}
    shops = the(chronicle, "raw/shops").version[:12]
    remade(chronicle)
    environment(chronicle, ENVIRONMENT, polars="2.1.0", numpy="2.4.6")
    environment(chronicle, "f" * 32, polars="2.0.0", pyarrow="26.0.1")

    assert (
        TREE.format(model=names["model"], training=names["training_set"], shops=shops) == command("trace", "shop").out
    )


def test_the_champion_is_traced_rather_than_the_newest(chronicle: Chronicle, command: Command) -> None:
    first = the(chronicle, "shop/model").version
    second = chronicle.make("shop/model").version
    changes = {"model": "shop", "decided_at": START}
    promoted(
        chronicle, promotion(1, champion=second).model_copy(update=changes),
        promotion(2, champion=first).model_copy(update=changes),
    )  # fmt: skip

    assert f"shop/model@{first[:12]}, the champion\n" in command("trace", "shop").out
    assert (
        "was champion from 2026-11-01 03:00 UTC (entry 1, promote by gate) to "
        in command("trace", f"shop@{second[:6]}").out
    )


def test_a_bad_raw_day_is_followed_to_models_and_predictions(chronicle: Chronicle, command: Command) -> None:
    model = the(chronicle, "shop/model").version
    promoted(chronicle, promotion(1, champion=model).model_copy(update={"model": "shop"}))

    printed = command("trace", "--raw", "orders", "2026-10-01").out
    assert printed.startswith("raw/orders[2026-10-01], 1 version\n")
    assert "models and predictions\n" in printed
    assert (
        f"  shop/model@{model[:12]}  champion now, since 2026-01-01 00:00 UTC (entry 1, promote by gate)\n" in printed
    )
    assert "  shop/predictions         2026-10-02 @" in printed


@pytest.mark.parametrize(
    ("arguments", "is_in"),
    [
        (["raw/orders", "--forward"], "shop/predictions"),
        (["raw/orders", "--partition", "2026-10-01", "--forward"], "shop/predictions"),
        (["--raw", "raw/shops"], "shop/predictions"),
        (["tables/stg_orders"], "raw/shops"),
        (["shop/predictions", "--days"], "2026-10-02   @"),
    ],
)
def test_any_artifact_can_be_traced(
    chronicle: Chronicle, command: Command, arguments: Sequence[str], is_in: str
) -> None:
    assert is_in in command("trace", *arguments).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shpo"], "there is no model 'shpo' in "),
        (["shpo"], "there are: shop (did you mean 'shop'?)."),
        (["tables/stg_order"], "(did you mean 'tables/stg_orders'?)"),
        (["shop@ffff"], "no version of shop/model in "),
        (["raw/orders@"], "'raw/orders@' has no version after '@'"),
        (["raw/orders", "--partition", "2027-01-01"], "there is: 2026-10-01 … 2026-10-02."),
        (["raw/orders", "--partition", "../../secret"], "is not a name inside the lake"),
        (["../secret"], "is not a name inside the lake"),
        (["--raw", "orders", "..@ab"], "is not a name inside the lake"),
        (["--prediction", "x", "--day", "../x"], "is not a name inside the lake"),
        ([], "expected one of WHAT, --raw and --prediction, got none"),
        (["shop", "--prediction", "x"], "got what and prediction"),
        (["shop", "--day", "2026-10-01"], "--day goes with --prediction"),
        (["--raw", "a", "b", "c"], "--raw takes TABLE and DAY"),
        (["--prediction", "x", "--model", "shpo"], "did you mean 'shop'?"),
    ],
)
def test_an_untraceable_target_ends_with_2_and_lists_valid_ones(
    chronicle: Chronicle, command: Command, arguments: Sequence[str], message: str
) -> None:
    printed = command("trace", *arguments, code=2)
    assert "" == printed.out
    assert message in printed.err


def test_something_missing_on_the_way_ends_with_1(chronicle: Chronicle, command: Command) -> None:
    training = the(chronicle, "shop/training_set")
    chronicle.manifest(training).unlink()

    assert f"! @{training.version[:12]} missing: the lake has no manifest" in command("trace", "shop", code=1).out


def test_a_damaged_promotion_log_is_reported_and_ends_with_1(chronicle: Chronicle, command: Command) -> None:
    path = chronicle.root / "promotions" / "shop" / "000001.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")

    assert f"{path} is not an entry of the promotion log" in command("trace", "shop", code=1).out.replace("\n  ", " ")


def test_json_has_every_artifact_and_edge_ungrouped(chronicle: Chronicle, command: Command) -> None:
    answer = command.json("trace", "shop")
    nodes = [(node["asset"], node["partition"]) for node in answer["nodes"]]
    edges = {(nodes[made], nodes[of]) for made, of in answer["edges"]}
    assert 9 == len(nodes)
    assert 9 == len(edges)
    assert (("tables/stg_orders", "2026-10-01"), ("raw/orders", "2026-10-01")) in edges
    assert ("shop/model", None) == nodes[answer["parts"][0]["roots"][0]]
    assert {"run-1", "run-2"} == {made["run_id"] for node in answer["nodes"] for made in node["manifests"]}


def test_the_page_is_written_where_it_is_requested(chronicle: Chronicle, tmp_path: Path, command: Command) -> None:
    command("trace", "shop", "--html", str(tmp_path / "trace.html"))
    refused = command("trace", "shop", "--html", str(tmp_path / "none" / "trace.html"), code=2)

    assert "shop/model" in (tmp_path / "trace.html").read_text(encoding="utf-8")
    assert "cannot write the page to" in refused.err


def scored(
    chronicle: Chronicle, day: date, *keys: tuple[str, int], score: float, inputs: Sequence[ArtifactRef]
) -> None:
    """Put a day of predictions with a key of two columns into the lake."""
    model = next(ref for ref in inputs if ref.asset == "shop/model").version
    rows = {
        "prediction_id": [f"{model}/{shop.replace('/', '%2F')}/{n}" for shop, n in keys],
        "shop": [shop for shop, _ in keys],
        "n": [n for _, n in keys],
        "day": [day] * len(keys),
        "score": [score] * len(keys),
        "model_version": [model] * len(keys),
        "features_version": ["f" * 32] * len(keys),
        "features": [{"price": 7.5, "weight": None}] * len(keys),
    }
    put(
        Lake(str(chronicle.root)),
        pl.DataFrame(rows),
        asset="shop/predictions",
        partition=str(day),
        inputs=tuple(inputs),
    )


@pytest.fixture
def predicted(chronicle: Chronicle) -> Chronicle:
    """The shop with predictions of two days, the second of them scored twice."""
    features = [ref for ref in chronicle.made if ref.asset == "shop/features"]
    model, other = the(chronicle, "shop/model"), chronicle.make("shop/model", None, [the(chronicle, "raw/shops")])
    for path in chronicle.root.glob("artifacts/shop/predictions/**/manifest-*.json"):
        path.unlink()
    scored(chronicle, date(2026, 10, 1), ("a", 1), ("b/c", 2), score=0.1, inputs=[features[0], model])
    scored(chronicle, date(2026, 10, 2), ("d", 3), score=0.2, inputs=[features[1], model])
    scored(chronicle, date(2026, 10, 2), ("d", 3), score=0.3, inputs=[features[1], other])
    promoted(
        chronicle,
        *(
            promotion(n, champion=ref.version).model_copy(
                update={"model": "shop", "decided_at": datetime.now().astimezone()}
            )
            for n, ref in enumerate((other, model), start=1)
        ),
    )
    return chronicle


def test_a_prediction_is_found_by_its_key_with_the_champion_of_its_day(predicted: Chronicle, command: Command) -> None:
    model = the(predicted, "shop/model").version

    printed = command("trace", "--prediction", "a/1").out
    assert printed.startswith(f"prediction {model}/a/1\n")
    assert "  score             0.1\n" in printed
    assert f"  scored by         shop/model@{model[:12]}, champion now, since " in printed
    assert "  features          price 7.5, weight -\n" in printed
    rows, by = printed.split("scored from\n")[1].split("by the model\n")
    assert "2026-10-01 @" in rows
    assert "2026-10-02" not in rows
    assert by.startswith("shop/model  ")


@pytest.mark.parametrize("key", ["b/c/2", "b%2Fc/2"])
def test_a_key_may_contain_the_separator_of_keys(predicted: Chronicle, command: Command, key: str) -> None:
    assert (
        "  shop              b/c\n"
        in command("trace", "--prediction", key, "--model", "shop", "--day", "2026-10-01").out
    )


def test_of_a_row_scored_twice_the_newest_is_traced_and_the_other_named(predicted: Chronicle, command: Command) -> None:
    first, second = (ref.version for ref in predicted.made if ref.asset == "shop/model")

    newest = command("trace", "--prediction", "d/3").out
    exact = command("trace", "--prediction", f"{first}/d/3").out

    assert newest.startswith(f"prediction {second}/d/3\n")
    assert f"  earlier           0.2 by {first[:12]} on " in newest
    assert exact.startswith(f"prediction {first}/d/3\n")
    assert "earlier" not in exact


def test_an_unknown_prediction_ends_with_2_and_shows_an_example_key(predicted: Chronicle, command: Command) -> None:
    assert (
        "has the key 'z/9'; searched 4 predictions. Give its key as in a/1"
        in command("trace", "--prediction", "z/9", code=2).err
    )


def test_a_damaged_day_of_predictions_is_reported_with_the_prediction_that_was_found(
    predicted: Chronicle, command: Command
) -> None:
    data = next(predicted.root.glob("artifacts/shop/predictions/2026-10-02/*/data.parquet"))
    data.write_bytes(data.read_bytes()[:-1])

    assert f"{data} is damaged" in command("trace", "--prediction", "a/1", code=1).out.replace("\n  ", " ")


def test_neither_dagster_nor_polars_is_loaded_for_the_backward_trace(chronicle: Chronicle) -> None:
    code = (
        "import argparse, sys; from ml_assets.cli import trace\n"
        "heavy = {'dagster', 'polars', 'numpy', 'pandera', 'dbt', 's3fs'}\n"
        "top = argparse.ArgumentParser(); trace.add_to(top.add_subparsers())\n"
        "chosen = top.parse_args(['trace', 'shop']); assert chosen.function(chosen) == 0\n"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip

    assert "[]\n" == done.stderr
