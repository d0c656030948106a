"""MLflow's scoring protocol (`POST /invocations`), for clients of MLflow's model servers."""

from typing import Any, Final

from ml_assets.serving.inputs import Columns
from ml_assets.serving.protocols.json_text import (
    bad_request,
    kind_of,
    list_of,
    lists_by_field,
    objects_of,
    read_object,
)  # fmt: skip
from ml_assets.serving.served_model import Served

_FORMS: Final = ("dataframe_split", "dataframe_records", "inputs", "instances")


def read_invocation(body: bytes) -> Columns:
    """Return the rows of one of the four forms of MLflow.

    Raises:
        RequestError: the body has another form.
    """
    found = read_object(body)
    if found.get("params"):
        raise bad_request("the body has 'params'; the models of this service have no parameters. Leave it out.")
    forms = [name for name in found if name != "params"]
    if len(forms) != 1 or forms[0] not in _FORMS:
        got = ", ".join(f"'{name:.80}'" for name in forms) or "none"
        raise bad_request(f"the body has {got}; expected exactly one of {', '.join(_FORMS)}.")
    [form] = forms
    given = found[form]
    if form == "dataframe_split":
        return _of_split(given)
    if form == "inputs" and isinstance(given, dict):
        return Columns(*lists_by_field(given, form))
    return Columns.of_records(objects_of(given, form))


def _of_split(given: object) -> Columns:
    """Return the rows of pandas' `to_dict(orient="split")`."""
    if not isinstance(given, dict):
        raise bad_request(f"'dataframe_split' is {kind_of(given)}; expected an object with 'columns' and 'data'.")
    names = list_of(given.get("columns"), "columns")
    if not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise bad_request("'columns' of 'dataframe_split' are not different texts; expected the names of fields.")
    rows = list_of(given.get("data"), "data")
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            got = f"has {len(row)} values" if isinstance(row, list) else f"is {kind_of(row)}"
            raise bad_request(f"row {number} of 'data' {got}; expected a list of {len(names)} values.")
    return Columns({name: [row[place] for row in rows] for place, name in enumerate(names)}, len(rows))


def invocation_answer(scores: Served) -> dict[str, Any]:
    """Return `predictions`: numbers, or objects if a row has several figures."""
    single = len(scores.columns) == 1
    return {"predictions": scores.columns["score"] if single else scores.records()}
