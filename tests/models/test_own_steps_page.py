"""The examples of the page about your own steps run as they are."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ml_assets.contracts.dotted_name import find_function
from ml_assets.models.evaluation import Versioned, measure_challenger, verdict_on
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


def declared(heading: str) -> dict[str, object]:
    """Return what the YAML under a heading declares."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    [example] = re.findall(r"^```yaml\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    found: dict[str, object] = yaml.safe_load(example)
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
