"""The examples of the page about your own steps run as they are."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_assets.contracts.dotted_name import find_function
from ml_assets.logic.training.booster import predict
from ml_assets.models.evaluation import Versioned, measure_challenger, verdict_on
from ml_assets.models.training import fit_model, search
from tests.flights import ROOT
from tests.stages.shop import Trained, plan_of

PAGE = (ROOT / "docs" / "your-own-steps.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Write each example that begins with the name of a file to this file, in a folder of modules."""
    for match in re.finditer(r"^```python\n# (\S+\.py)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        path = tmp_path / match[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(match[2], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    find_function.cache_clear()
    for name in [it for it in sys.modules if it.partition(".")[0] == "shop"]:
        del sys.modules[name]


def declared(heading: str) -> dict[str, Any]:
    """Return what the last YAML under a heading declares."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found: dict[str, Any] = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)[-1])
    return found


def test_the_metric_is_measured(trained: Trained) -> None:
    plan = plan_of(**declared("A metric"))

    found = measure_challenger(
        plan, trained.training_set, Versioned("a", trained.model), champion=None, anchor=None
    ).summary
    assert "shop.metrics.cost (lower is better)" == found.metric
    assert 0 < found.metrics[found.metric].value < 10


def test_the_gate_rule_is_checked(trained: Trained) -> None:
    plan = plan_of(**declared("A gate rule"))

    [*_, rule] = verdict_on(plan, trained.evaluation, trained.model, (), entries=()).rules
    summary = trained.evaluation.summary
    precision, rate = summary.metrics["average_precision"].value, summary.target_mean
    assert ("shop.rules.twice_the_rate", precision >= 2 * rate) == (rule.name, rule.holds)
    assert {precision, rate} == {*rule.figures.values()}


def test_the_estimator_is_searched_and_trained(trained: Trained) -> None:
    given = declared("An estimator")
    plan = plan_of(training=given["training"], tuning={**given["tuning"], "trials": 3})

    tuned = search(plan, trained.training_set, trained.importances)
    model = fit_model(plan, trained.training_set, tuned)
    rows = trained.training_set.part("test")
    truth, scores = rows["is_returned"].to_numpy(), predict(model, rows)["score"].to_numpy()
    assert ("shop.models.Discriminant", 3) == (model.spec.estimator, tuned.trials.height)
    in_order = scores[truth][:, None] > scores[~truth][None, :]  # of each pair of a positive and a negative
    assert in_order.mean() > 0.85
