"""A version of a model against its champion, on days that are later than both."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from ml_assets.cli.main import main
from ml_assets.contracts.artifacts.training import Model, Tuning
from ml_assets.contracts.errors import DataError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.store import Lake, Origin
from ml_assets.logic.training.booster import predict
from ml_assets.models.plan import ModelPlan
from ml_assets.models.training import fit_model
from ml_assets.models.training_rows import training_set_in
from ml_assets.notebook.versions import comparison_of
from tests.builders import files_of, promotion
from tests.notebook.conftest import by_day
from tests.stages.shop import DAYS, FIRST, Trained, feature_rows, label_rows, plan_of

TRAINED_ON = FIRST + timedelta(days=34)
LAST = FIRST + timedelta(days=DAYS - 1)
Two = tuple[Lake, str, str]


@pytest.fixture(scope="module")
def built(plan: ModelPlan, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Two:
    """Return a lake with a champion that reads one useless feature, and a version that reads all."""
    lake = Lake(str(tmp_path_factory.mktemp("two")))
    lake.put_each("returns/features", by_day(feature_rows()))
    lake.put_each("returns/labels", {str(FIRST): (label_rows().clear(), Origin()), **by_day(label_rows())})
    earlier = training_set_in(lake, plan, TRAINED_ON)

    def version_of(*features: str) -> str:
        best = trained.tuning.best.model_copy(update={"features": features})
        model = fit_model(plan, earlier, Tuning(trained.tuning.trials, best))
        return lake.put("returns/model", None, model, Origin()).ref.version

    champion, version = version_of("shop"), version_of("shop", "items", "weight kg")
    PromotionLog(lake, "returns").append(promotion(1, champion=champion, model="returns"), number=1)
    return lake, champion, version


@pytest.fixture
def two(built: Two, tmp_path: Path) -> Two:
    """Return a copy of the lake, whose champion may be changed."""
    lake, *versions = built
    shutil.copytree(lake.url, tmp_path / "lake")
    return Lake(str(tmp_path / "lake")), *versions


def auc(model: Model, rows: pl.DataFrame) -> float:
    """Return the share of pairs of a positive and a negative row in the right order; ties count as half."""
    scores, truth = predict(model, rows)["score"].to_numpy(), rows["is_returned"].to_numpy()
    gaps = scores[truth][:, None] - scores[~truth][None, :]
    return float(((gaps > 0) + (gaps == 0) / 2).mean())


def test_a_version_that_is_better_on_later_days_passes_the_gates_rule_and_nothing_is_written(
    two: Two, plan: ModelPlan
) -> None:
    lake, champion, version = two
    before = files_of(lake)

    found = comparison_of(lake, plan, version[:12])

    # The labels of the last day are known a day later.
    days = TRAINED_ON + timedelta(days=1), LAST - timedelta(days=1)
    rows = feature_rows().join(label_rows().select("order_id", "is_returned"), on="order_id")
    rows = rows.filter(pl.col("day").is_between(*days))
    models = [lake.get(ArtifactRef(asset="returns/model", version=it), Model) for it in (version, champion)]
    assert days == found.days
    assert pytest.approx([auc(it, rows) for it in models]) == [found.comparison.challenger, found.comparison.other]
    assert found.holds
    assert found.sentence.startswith(f"Is not worse than champion {champion} by more than the margin of 0.005: roc_auc")
    assert f"returns: {version} compared with champion {champion} on {rows.height:,} rows of {days[0]}" in repr(found)
    assert before == files_of(lake)


def test_a_version_that_is_worse_does_not_pass(two: Two, plan: ModelPlan) -> None:
    lake, champion, version = two
    PromotionLog(lake, "returns").append(promotion(2, champion=version, model="returns"), number=2)

    found = comparison_of(lake, plan, champion)

    assert not found.holds
    assert found.sentence.startswith(f"Is worse than champion {version} by more than the margin")


def test_what_cannot_be_compared_is_refused_with_the_reason(two: Two, plan: ModelPlan) -> None:
    lake, *versions = two

    with pytest.raises(DataError, match="is the champion; expected another version"):
        comparison_of(lake, plan, "champion")
    with pytest.raises(DataError, match=rf"4 days from {TRAINED_ON} .* to .* are too few .* expected at least 5\."):
        comparison_of(lake, plan, versions[1], as_of=TRAINED_ON + timedelta(days=4))
    with pytest.raises(DataError, match="the split of 'returns' is 'by: random', so no rows are later"):
        comparison_of(lake, plan_of(split={"by": "random"}), versions[1])


def test_the_command_prints_the_comparison_and_ends_with_1_if_the_version_does_not_pass(
    two: Two, plan: ModelPlan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, champion, version = two
    PromotionLog(lake, "returns").append(promotion(2, champion=version, model="returns"), number=2)
    monkeypatch.setenv("ML_ASSETS_LAKE", lake.url)
    monkeypatch.setattr("ml_assets.cli.flow.project.prepare", lambda: None)
    monkeypatch.setattr("ml_assets.notebook.artifacts.read_plan", lambda _: plan)

    assert 1 == main(["compare", "returns", champion[:8], "--as-of", str(LAST), "--json"])

    answer = json.loads(capsys.readouterr().out)
    assert (champion, version, False) == (answer["version"], answer["champion"], answer["holds"])
    assert answer["comparison"]["difference"]["value"] < 0
