"""Renders the templates of a new model: SQL, YAML, Python and a notebook."""

import json
import re
from collections.abc import Mapping
from datetime import date
from typing import Final

_PLAIN: Final = re.compile(r"[A-Za-z_][\w ./()=-]*[\w).]|[A-Za-z]")
_YAML_WORDS: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def rendered(template: str, values: Mapping[str, object]) -> str:
    """Return a template of `ml_assets/templates/new` with its values."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("ml_assets", "templates/new"), block_start_string="[%", block_end_string="%]",
        variable_start_string="[[", variable_end_string="]]", comment_start_string="[#", comment_end_string="#]",
        undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the files are not HTML
    )  # fmt: skip
    jinja.filters["yaml"] = as_yaml
    return jinja.get_template(template).render(values)


def as_yaml(value: object) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{as_yaml(key)}: {as_yaml(it)}" for key, it in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    if isinstance(value, date | int | float):
        return str(value).lower()
    text = str(value)
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS
    if is_plain:
        return text
    is_simple = text.isprintable() and "'" not in text
    return f"'{text}'" if is_simple and '"' in text else json.dumps(text, ensure_ascii=False)


def as_dagster_text(text: str) -> str:
    """Return a text that may have names and values from data, on one line and without what Dagster would evaluate."""
    return re.sub(r"\{(?=[{%#])", "{ ", " ".join(text.split()))
