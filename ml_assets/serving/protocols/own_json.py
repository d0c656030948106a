"""The service's own JSON: rows as objects, scores as objects in the same order."""

from typing import Any

from ml_assets.contracts.artifacts.training import Feature
from ml_assets.logic.training.encoding import Matrix
from ml_assets.serving.inputs import Columns
from ml_assets.serving.protocols.json_text import (
    bad_request,
    kind_of,
    objects_of,
    only_fields,
    read_object,
)  # fmt: skip
from ml_assets.serving.served_model import Served


def read_own_rows(body: bytes) -> tuple[Columns, str | None]:
    """Return the rows of `{"rows": [{...}, ...], "version": "..."}`, and the version that the caller expects.

    Raises:
        RequestError: the body has another form.
    """
    found = read_object(body)
    only_fields(found, ("rows", "version"))
    if "rows" not in found:
        raise bad_request("the body has no 'rows'; expected a list of rows, each an object of fields.")
    version = found.get("version")
    if "version" in found and not isinstance(version, str):
        raise bad_request(f"'version' is {kind_of(version)}; expected the text of a version.")
    return Columns.of_records(objects_of(found["rows"], "rows")), version


def own_answer(name: str, scores: Served) -> dict[str, Any]:
    """Return the answer with one object for each row."""
    unseen = {"unseen_categories": dict(scores.unseen)} if scores.unseen else {}
    return {
        "model": name,
        "version": scores.version,
        "entry": scores.entry,
        "predictions": scores.records(),
        **unseen,
    }


def own_explanation(name: str, scores: Served, added: Matrix, features: tuple[Feature, ...]) -> dict[str, Any]:
    """Return the answer with what each feature adds to the raw score of each row."""
    names = [feature.name for feature in features]
    rows = [
        {**record, "base": base, "contributions": dict(zip(names, each, strict=True))}
        for record, (*each, base) in zip(scores.records(), added.tolist(), strict=True)
    ]
    return {**own_answer(name, scores), "predictions": rows}
