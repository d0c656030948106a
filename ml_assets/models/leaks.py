"""Reads the known leaks of a model's features: the newest leak test, and the tests behind a training set.

Not here: the test (see `ml_assets.stages.leak_test.leaktest`).
"""

from collections.abc import Mapping, Sequence

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.leaks import LeakTestRecord
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.store import Lake
from ml_assets.logic.inspection.lone_columns import LonePredictor
from ml_assets.logic.point_in_time.suspects import LeakFindings, suspects

LONE = "lone_predictors"
"""The manifest parameter of a training set that lists features which alone predict the target almost perfectly."""

LEAK_TEST = "leak_test"
"""The manifest parameter of features with the figures of the run's leak test."""


def record_asset(model: str) -> str:
    """Return the asset under which the lake stores the newest leak test."""
    return f"{model}/features__leak_test"


def newest_record(lake: Lake, model: str, *, runs: Sequence[str] = ()) -> LeakTestRecord | None:
    """Return the newest leak test, of `runs` before others; None if there is none."""
    found = lake.newest(record_asset(model), [""], runs=runs)
    record: LeakTestRecord | None = lake.get(found[""], LeakTestRecord) if found else None
    return record


def proven_leaks(lake: Lake, model: str) -> tuple[str, ...]:
    """Return the leaks that the newest leak test proved, as sentences."""
    record = newest_record(lake, model)
    return tuple(leak.sentence for leak in record.leaks) if record else ()


def findings_on(
    lake: Lake,
    model: ModelDeclaration,
    features: Sequence[ArtifactRef],
    lone: Sequence[LonePredictor],
    *,
    runs: Sequence[str] = (),
) -> LeakFindings:
    """Return the known leaks in some days of features.

    Args:
        lake: contains them.
        model: its declaration.
        features: the days.
        lone: features that alone predict the target almost perfectly.
        runs: runs whose leak test counts before others.
    """
    settings = model.leak_test
    manifests = lake.manifest_of_each(features).values() if settings.samples else ()
    figures = {it.run_id: note for it in manifests if isinstance(note := it.parameters.get(LEAK_TEST), Mapping)}
    cuts = sum(int(str(note.get("samples", 0))) for note in figures.values())
    record = newest_record(lake, model.name, runs=runs)
    return LeakFindings(
        is_tested=settings.samples > 0,
        cuts=cuts,
        cut_days=sum(int(str(note.get("sampled_days", 0))) for note in figures.values()),
        rows=sum(int(str(note.get("rows", 0))) for note in figures.values()),
        days=len(features),
        untested=sum(LEAK_TEST not in it.parameters for it in manifests),
        proven=tuple(leak.sentence for leak in record.leaks) if record else (),
        suspects=suspects(
            lone, cuts=cuts, history=record.history_columns if record else None, acknowledged=settings.acknowledged
        ),
        known_times=record.known_times if record else (),
    )


def findings_behind(
    lake: Lake, model: ModelDeclaration, training_set: Manifest, *, runs: Sequence[str] = ()
) -> LeakFindings:
    """Return the known leaks in the features of a training set."""
    asset = f"{model.name}/features"
    noted = training_set.parameters.get(LONE)
    lone = [LonePredictor(**it) for it in noted] if isinstance(noted, list) else []  # type: ignore[arg-type] # as written
    return findings_on(lake, model, [ref for ref in training_set.inputs if ref.asset == asset], lone, runs=runs)


def refuse_leaks(model: str, findings: LeakFindings) -> None:
    """Refuse to train on features with a proven leak, or not covered by a declared leak test.

    Raises:
        ContractError: there are such features.
    """
    if findings.proven or (findings.is_tested and findings.untested):
        raise ContractError(
            f"{model} is not trained. {findings.sentence} Correct the SQL of these columns, then materialize the "
            f"features again: ml-assets run {model}. Where the known_time of a source was wrong, correct it and test "
            f"again: ml-assets leaktest {model}."
        )
