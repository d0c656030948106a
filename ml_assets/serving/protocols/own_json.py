"""The service's own JSON: rows as objects, scores as objects in the same order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml_assets.contracts.artifacts.training import Feature
from ml_assets.logic.training.encoding import Matrix
from ml_assets.serving.inputs import Columns
from ml_assets.serving.protocols.json_text import (
    bad_request,
    kind_of,
    list_of,
    objects_of,
    only_fields,
    read_object,
)  # fmt: skip
from ml_assets.serving.served_model import Served


@dataclass(frozen=True)
class OwnRequest:
    """A request of own JSON.

    Attributes:
        rows: the rows; None if it has keys.
        keys: what it has as keys; none if it has rows.
        version: the version that the caller expects; None without.
    """

    rows: Columns | None
    keys: Sequence[Any]
    version: str | None


def read_own_request(body: bytes) -> OwnRequest:
    """Return the request of `{"rows": [{...}, ...], "version": "..."}`, or the same with `keys`.

    Raises:
        RequestError: the body has another form.
    """
    found = read_object(body)
    only_fields(found, ("rows", "keys", "version"))
    if ("rows" in found) == ("keys" in found):
        both = "both 'rows' and 'keys'" if "rows" in found else "no 'rows' and no 'keys'"
        raise bad_request(f"the body has {both}; expected a list of rows, each an object of fields, or one of keys.")
    version = found.get("version")
    if "version" in found and not isinstance(version, str):
        raise bad_request(f"'version' is {kind_of(version)}; expected the text of a version.")
    if "keys" in found:
        return OwnRequest(None, list_of(found["keys"], "keys"), version)
    return OwnRequest(Columns.of_records(objects_of(found["rows"], "rows")), (), version)


def own_answer(
    name: str, scores: Served, joined: Sequence[Mapping[str, Any]] = (), *, is_canary: bool = False
) -> dict[str, Any]:
    """Return the answer with one object for each row, and what is known of its feature row if it was joined."""
    records = scores.records()
    unseen = {"unseen_categories": dict(scores.unseen)} if scores.unseen else {}
    return {
        "model": name,
        "version": scores.version,
        "entry": scores.entry,
        "predictions": [{**a, **b} for a, b in zip(records, joined, strict=True)] if joined else records,
        **unseen,
        **({"canary": True} if is_canary else {}),
    }


def own_explanation(
    name: str,
    scores: Served,
    added: Matrix,
    features: tuple[Feature, ...],
    joined: Sequence[Mapping[str, Any]] = (),
    *,
    is_canary: bool = False,
) -> dict[str, Any]:
    """Return the answer with what each feature adds to the raw score of each row."""
    names = [feature.name for feature in features]
    answer = own_answer(name, scores, joined, is_canary=is_canary)
    rows = [
        {**record, "base": base, "contributions": dict(zip(names, each, strict=True))}
        for record, (*each, base) in zip(answer["predictions"], added.tolist(), strict=True)
    ]
    return {**answer, "predictions": rows}
