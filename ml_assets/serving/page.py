"""The page for people: a form for one row, its score, what each feature adds, and the version.

The page has no data: its script asks the service for them, with the token that a person enters.
"""

import secrets
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from ml_assets.serving.http import HttpAnswer, header_bytes
from ml_assets.serving.schemas import example_rows
from ml_assets.serving.served_model import ServedModel

if TYPE_CHECKING:
    from jinja2 import Template

MOST_CHOICES: Final = 500
"""Categories that the form offers; others can be typed."""
_GOLDEN: Final = 32


def page(release: str) -> HttpAnswer:
    """Return the page, which runs no script but its own and asks no other host."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; connect-src 'self'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = header_bytes({
        "Content-Security-Policy": policy, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    })  # fmt: skip
    text = _template().render(nonce=nonce, release=release)
    return HttpAnswer(text.encode(), "text/html; charset=utf-8", headers=headers)


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("ml_assets"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("serve.html.jinja")


def form_of(served: ServedModel) -> dict[str, Any]:
    """Return the fields of a row and golden rows. Personal values are not shown."""
    return {
        "name": served.name,
        "version": served.version,
        "entry": served.entry.number,
        "is_explained": served.model.spec.estimator is None,
        "fields": [
            {
                "name": its.name, "kind": _kind(its.column.dtype), "unit": its.column.unit,
                "description": its.column.description, "is_nullable": its.column.is_nullable,
                "choices": [] if its.codes is None or its.column.is_pii else [*its.codes][:MOST_CHOICES],
            }
            for its in served.inputs.fields
        ],
        "rows": example_rows(served, _GOLDEN),
    }  # fmt: skip


def _kind(dtype: pl.DataType) -> str:
    """Return the type of a field in JSON."""
    if dtype == pl.Boolean:
        return "boolean"
    if dtype == pl.String:
        return "text"
    return "integer" if dtype.is_integer() else "number"
