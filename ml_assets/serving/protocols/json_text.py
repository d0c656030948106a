"""Reads and writes JSON strictly: no NaN, no infinity, no field that is named twice."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NoReturn

from ml_assets.serving.errors import RequestError

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
"""The escape of half a character; both halves together are one that UTF-8 has."""

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def bad_request(detail: str) -> RequestError:
    """Return the error of a body that is not of the form of its protocol."""
    return RequestError(HTTPStatus.BAD_REQUEST, detail)


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body.

    Raises:
        RequestError: it is not JSON in UTF-8, has a text that is not Unicode, or is not an object.
    """
    try:
        found = json.loads(body.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique)
        if _SURROGATE.search(body):
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise bad_request(
            "a text of the body has half a character (\\ud800 to \\udfff alone); expected Unicode."
        ) from error
    except UnicodeDecodeError as error:
        raise bad_request(f"the body is not UTF-8 at byte {error.start}; expected JSON in UTF-8.") from error
    except RecursionError as error:
        raise bad_request("the body is nested too deeply; expected JSON of the documented form.") from error
    except ValueError as error:
        raise bad_request(f"the body is not valid JSON: {error}.") from error
    if not isinstance(found, dict):
        raise bad_request(f"the body is {kind_of(found)}; expected a JSON object.")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON; send null for a missing value")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"'{twice:.80}' is named twice in an object")
    return found


def json_bytes(answer: Mapping[str, Any], *, errors: str = "strict") -> bytes:
    """Return an answer as JSON. Numbers are the shortest that read back to the same double.

    Args:
        answer: the object.
        errors: what happens to text that is not Unicode, as `str.encode` names it.
    """
    return _ENCODER.encode(answer).encode(errors=errors)


def whole_number(text: str) -> float | None:
    """Return the number of a header that has only digits; None for another text."""
    return float(text) if text.isascii() and text.isdigit() else None


def kind_of(value: object) -> str:
    """Return the kind of a value of JSON in words."""
    if value is None:
        return "null"
    kinds: dict[type, str] = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return kinds.get(type(value), "an object")


def list_of(value: object, what: str) -> list[Any]:
    """Return a list.

    Raises:
        RequestError: it is something else.
    """
    if not isinstance(value, list):
        raise bad_request(f"'{what}' is {kind_of(value)}; expected a list.")
    return value


def only_fields(found: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise an error if an object has other fields.

    Raises:
        RequestError: it has.
    """
    if unknown := [name for name in found if name not in known]:
        raise bad_request(f"there is the unknown field '{unknown[0]:.80}'; expected {', '.join(known)}.")


def objects_of(value: object, what: str) -> list[dict[str, Any]]:
    """Return a list of objects.

    Raises:
        RequestError: it is something else.
    """
    records = list_of(value, what)
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise bad_request(f"row {number} of '{what}' is {kind_of(record)}; expected an object of fields.")
    return records


def lists_by_field(value: object, what: str) -> tuple[dict[str, list[Any]], int]:
    """Return lists of one length by field, and that length.

    Raises:
        RequestError: it is something else.
    """
    if not isinstance(value, dict):
        raise bad_request(f"'{what}' is {kind_of(value)}; expected an object with a list for each field.")
    columns = {name: list_of(values, name[:80]) for name, values in value.items()}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise bad_request(f"the lists of '{what}' have {min(lengths)} to {max(lengths)} values; expected one length.")
    return columns, max(lengths, default=0)
