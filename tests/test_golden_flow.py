"""A whole flow leaves the artifacts, decisions and card that the golden files in `tests/golden` show."""

import html
import json
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import pytest

from ml_assets.lake.store import Lake
from tests.golden_files import GOLDEN, as_json, check_golden, is_written_anew
from tests.killing import MODEL, WITH_TIMES, Undisturbed, outcome

EXACT: Final = ("raw/", "tables/", f"{MODEL}/features", f"{MODEL}/labels", f"{MODEL}/training_set")
"""What is the same on every processor: text, joins, and sums of DuckDB on one thread in one order."""
_MARKUP: Final = re.compile(r"<(style|script|svg)\b.*?</\1>|<[^>]*>", re.DOTALL)

_OF_THIS_RUN: Final = (
    (re.compile(r"(?<=\nCode version\n)\w+"), "CODE"),
    (re.compile(r"(?<=\nEnvironment digest\n)\w+"), "ENVIRONMENT"),
    (re.compile(r"(?<=\nChampion since entry 1, )[\d-]+"), "DAY"),
)


@pytest.fixture(scope="module")
def flow(undisturbed: Undisturbed) -> Mapping[str, Any]:
    """What the flow over eleven days left behind."""
    return outcome(Lake(str(undisturbed.lake)))


def versions(flow: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the version of each artifact, by asset and partition."""
    found: dict[str, dict[str, str]] = {}
    for folder in sorted(flow["artifacts"]):
        place, _, its_version = folder.rpartition("/")
        asset, _, partition = place.rpartition("/")
        is_day = re.fullmatch(r"\d{4}-\d\d-\d\d", partition) is not None
        days = found.setdefault(asset if is_day else place, {})
        assert (partition if is_day else "") not in days, f"{place} has two versions"
        days[partition if is_day else ""] = its_version
    return found


def where() -> dict[str, Any]:
    """Return what the last bits of a float depend on: the processor's features, its libraries and their versions."""
    features = np.show_config(mode="dicts")["SIMD Extensions"]  # type: ignore[call-overload, index] # numpy's stub
    packages = ("lightgbm", "numpy", "optuna", "polars")
    return {
        "libc": " ".join(platform.libc_ver()),
        "machine": platform.machine(),
        "packages": {name: version(name) for name in packages},
        "processor": sorted([*features["baseline"], *features["found"]]),
    }


@pytest.fixture
def same_processor() -> None:
    """Skip what is computed in floats where the golden files were not written on a machine of this kind."""
    if is_written_anew():
        check_golden("flow_where.json", as_json(where()))
    expected = json.loads((GOLDEN / "flow_where.json").read_text(encoding="utf-8"))
    different = [
        f"{name}: {expected[name]} there, {found} here" for name, found in where().items() if found != expected[name]
    ]
    if different:
        pytest.skip(f"floats may differ in their last bits from those that are written down: {'; '.join(different)}")


def test_versions_of_raw_data_tables_features_and_labels_equal_the_golden_file(flow: Mapping[str, Any]) -> None:
    found = {asset: days for asset, days in versions(flow).items() if asset.startswith(EXACT)}

    check_golden("flow_tables.json", as_json(found))


@pytest.mark.usefixtures("same_processor")
def test_versions_of_models_predictions_and_monitoring_equal_the_golden_file(flow: Mapping[str, Any]) -> None:
    found = {asset: days for asset, days in versions(flow).items() if not asset.startswith((*EXACT, *WITH_TIMES))}

    check_golden("flow_models.json", as_json(found))


@pytest.mark.usefixtures("same_processor")
def test_decisions_of_the_gate_equal_the_golden_file(flow: Mapping[str, Any]) -> None:
    """The reasons are sentences, which stand on the card."""
    log = [{name: value for name, value in entry.items() if name != "reasons"} for entry in flow["log"]]

    check_golden("flow_promotions.json", as_json({"log": log}))


@pytest.mark.usefixtures("same_processor")
def test_the_card_equals_the_golden_file(flow: Mapping[str, Any]) -> None:
    lines = [html.unescape(line).strip() for line in _MARKUP.sub("\n", flow["card"]).splitlines()]
    text = "\n".join(line for line in lines if line) + "\n"
    for pattern, name in _OF_THIS_RUN:
        text = pattern.sub(name, text)

    check_golden("flow_card.txt", text)
