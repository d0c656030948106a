"""What is wrong with a request, as the service answers it: problem details for HTTP APIs (RFC 9457)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

PROBLEM: Final = "application/problem+json"
"""The media type of every error."""


@dataclass(frozen=True)
class FieldProblem:
    """What is wrong with the values of one field.

    Attributes:
        detail: what was found and what is expected. It shows no personal value.
        row: the first row that has this problem, from 0; None if the whole column has it.
        rows: the number of rows that have it.
    """

    field: str
    detail: str
    row: int | None = None
    rows: int = 1

    @property
    def record(self) -> dict[str, Any]:
        """The problem for JSON."""
        place = {} if self.row is None else {"row": self.row, "rows": self.rows}
        return {"field": self.field, "detail": self.detail, **place}


class RequestError(Exception):
    """A request is not answered with scores.

    Attributes:
        status: the status of the answer.
        detail: what is wrong, what is expected and how to fix it, in sentences.
        fields: the broken fields, if the rows break the contract of the model.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        fields: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.fields = tuple(fields)
        self.headers = dict(headers or {})

    @property
    def problem(self) -> dict[str, Any]:
        """The problem details for JSON. `error` is where clients of the Open Inference Protocol look for a message."""
        errors = {"errors": [it.record for it in self.fields]} if self.fields else {}
        listed = "; ".join(f"{it.field}: {it.detail}" for it in self.fields)
        return {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
            **errors,
            "error": f"{self.detail} {listed}".rstrip(),
        }


def broken_fields(model: str, fields: Sequence[FieldProblem]) -> RequestError:
    """Return the error of rows that break the contract of a model."""
    names = [*dict.fromkeys(it.field for it in fields)]
    return RequestError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"the rows break the contract of model '{model}' in {len(names)} field{'s' if len(names) > 1 else ''}; nothing "
        "was scored. Correct all of them; GET /openapi.json has the contract.",
        fields=fields,
    )
