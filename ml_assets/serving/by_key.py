"""Requests that name only the key of each row: the service joins the newest feature row, as the declaration says."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

import polars as pl

from ml_assets.contracts.words import counted
from ml_assets.declaration.serving import ServingSettings
from ml_assets.serving.errors import FieldProblem, RequestError
from ml_assets.serving.fields import Problems, shown
from ml_assets.serving.inputs import Columns
from ml_assets.serving.keys import RowKey, check_values, typed_values
from ml_assets.serving.logged_rows import JoinedRows
from ml_assets.serving.protocols.json_text import bad_request, kind_of
from ml_assets.serving.served_model import ServedModel

STALE: Final = "is_stale"


@dataclass(frozen=True)
class JoinedRequest:
    """A request by key with its feature rows.

    Attributes:
        columns: the inputs of each row, as they are scored.
        is_stale: whether each row is older than declared; None if no age is declared, or older rows are refused.
    """

    columns: Columns
    joined: JoinedRows
    is_stale: Sequence[bool] | None

    def records(self) -> list[dict[str, Any]]:
        """Return what the answer says of each row beside its scores."""
        joined, stale = self.joined, self.is_stale
        return [
            {
                "prediction_time": f"{at.isoformat()}Z", "age_seconds": age, "features_version": version,
                **({} if stale is None else {STALE: stale[row]}),
            }
            for row, (at, age, version) in enumerate(
                zip(joined.prediction_times, joined.ages, joined.versions, strict=True)
            )
        ]  # fmt: skip


def join(served: ServedModel, settings: ServingSettings, given: Sequence[Any], now: datetime) -> JoinedRequest:
    """Join the keys of a request with their newest feature rows.

    Args:
        served: the model.
        settings: what is declared for it.
        given: the keys: objects with the columns of the key, and values for overridable features; of a key with one
            column, its values are enough.
        now: in UTC without a zone.

    Raises:
        RequestError: the model has no features in memory, the keys are wrong, or some are unknown or too old.
    """
    key, features = served.inputs.key, served.features
    if key is None or features is None:
        raise RequestError(
            HTTPStatus.CONFLICT, f"model '{served.name}' has no features in the lake that are served by key; send "
            f"'rows' with all inputs. To make features: ml-assets run {served.name}; serving.look_back must not be 0.",
        )  # fmt: skip
    records = _records(key, given)
    keys = _checked(served, key, settings, records)
    places = features.places_of(keys)
    if unknown := [row for row, place in enumerate(places) if place is None]:
        why = f"expected one with a row in the newest {counted(features.periods, 'period')} of features"
        raise RequestError(
            HTTPStatus.NOT_FOUND, f"{counted(len(unknown), 'key')} of {len(places)} {_have(unknown)} no feature row of "
            f"model '{served.name}' whose prediction time has come; nothing was scored. Send other keys, or "
            "materialize their features.", fields=_named(key, records, unknown, [why] * len(unknown)),
        )  # fmt: skip
    rows = features.rows[[place for place in places if place is not None]]
    times: list[datetime] = rows[key.prediction_time].to_list()
    ages = [round((now - at).total_seconds(), 3) for at in times]
    stale = _stale(served, key, settings, records, ages)
    inputs = [it.name for it in served.inputs.fields]
    allowed = [name for name in settings.overridable if name in inputs]
    overridden = [tuple(name for name in allowed if name in record) for record in records]
    values = [
        {**row, **{name: record[name] for name in names}}
        for row, record, names in zip(rows.select(inputs).to_dicts(), records, overridden, strict=True)
    ]
    joined = JoinedRows(keys, times, ages, features.versions_of(rows), overridden)
    return JoinedRequest(Columns.of_records(values), joined, stale)


def _records(key: RowKey, given: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Return each key as an object.

    Raises:
        RequestError: one is no object, and the key has several columns.
    """
    found: list[Mapping[str, Any]] = []
    for number, it in enumerate(given):
        if isinstance(it, dict):
            found.append(it)
        elif len(key.names) == 1:
            found.append({key.names[0]: it})
        else:
            columns = ", ".join(key.names)
            raise bad_request(f"row {number} of 'keys' is {kind_of(it)}; expected an object with {columns}.")
    return found


def _checked(
    served: ServedModel, key: RowKey, settings: ServingSettings, records: Sequence[Mapping[str, Any]]
) -> pl.DataFrame:
    """Return the keys in the types of the contract.

    Raises:
        RequestError: columns are absent, wrong or unknown; all are listed.
    """
    given, problems = Columns.of_records(records), Problems()
    there = [(it, given.values[it.name]) for it in key.fields if it.name in given.values]
    for it in key.fields:
        if records and it.name not in given.values:
            problems.add_column(it.name, "absent; expected a value")
    check_values(there, problems, may_lack=False)
    known = [*key.names, *settings.overridable]
    for name in given.values:
        if name not in known:
            problems.add_column(name, f"unknown; expected {', '.join(known)}")
    problems.refuse(served.name)
    return pl.DataFrame([typed_values(it, given.values.get(it.name, ())) for it in key.fields])


def _stale(
    served: ServedModel, key: RowKey, settings: ServingSettings, records: Sequence[Mapping[str, Any]],
    ages: Sequence[float],
) -> Sequence[bool] | None:  # fmt: skip
    """Return whether each row is older than declared; None if no age is declared, or older rows are refused.

    Raises:
        RequestError: rows are older, and are refused.
    """
    most = settings.max_age_hours
    if most is None:
        return None
    is_stale = [age > most * 3600 for age in ages]
    if settings.when_older == "flag":
        return is_stale
    if rows := [row for row, is_old in enumerate(is_stale) if is_old]:
        whys = [f"its newest row is {timedelta(seconds=round(ages[row]))} old" for row in rows]
        raise RequestError(
            HTTPStatus.CONFLICT, f"the newest feature rows of {counted(len(rows), 'key')} of {len(records)} are older "
            f"than {most:g} hours, as declared for model '{served.name}'; nothing was scored. Materialize their "
            "features.", fields=_named(key, records, rows, whys),
        )  # fmt: skip
    return None


def _named(
    key: RowKey, records: Sequence[Mapping[str, Any]], rows: Iterable[int], whys: Iterable[str]
) -> list[FieldProblem]:
    """Return a problem for each of some keys."""
    names = ", ".join(key.names)
    return [
        FieldProblem(
            names,
            f"is {', '.join(shown(records[row][it.name], is_personal=it.column.is_pii) for it in key.fields)}; {why}",
            row,
        )
        for row, why in zip(rows, whys, strict=True)
    ]


def _have(rows: Sequence[int]) -> str:
    return "has" if len(rows) == 1 else "have"
