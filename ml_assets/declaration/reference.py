"""The reference of declarations as Markdown: each field with type, default, range and meaning.

`make reference` writes it to `docs/reference.md`.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import TypeAdapter

from ml_assets.declaration.compute import Bytes, Cores, LabelName, LabelValue, PodFields
from ml_assets.declaration.parts import ColumnName, Name
from ml_assets.declaration.reading import KINDS
from ml_assets.declaration.schema import schema
from ml_assets.declaration.times import Cron, Timezone
from ml_assets.landing.csv_dialect import Encoding, Mark
from ml_assets.landing.time_formats import ColumnFormat, Format

Node = Mapping[str, Any]

_TYPES: Final = (
    Name, ColumnName, Timezone, Cron, Cores, Bytes, LabelName, LabelValue, PodFields, Mark, Encoding, Format,
    ColumnFormat,
)  # fmt: skip
"""The types of single values that have a name."""
_PLAIN: Final = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
_TOP: Final = """\
# Reference of declarations

*Generated from the types in `ml_assets/declaration` by `make reference`. Do not edit this page.*

A declaration is a file `defs/<name>/defs.yaml` with a `type` and its `attributes`. Editors that know the YAML language
server complete and explain the fields if the file names the schema in its first line:

```yaml
# yaml-language-server: $schema=<path of schema.json>
type: TYPE
attributes:
  version: 1
```

A field that is not listed here is an error. A field without a default is required. «unset» means that the field may be
left out, or set to `null`.
"""


def reference() -> str:
    """Return the page."""
    root = schema()
    definitions: Mapping[str, Node] = root["$defs"]
    tops = {kind.__name__: name for name, kind in KINDS.items()}
    listed = "\n".join(f"- [`{name}`](#{top.lower()}): {_text(definitions[top])}" for top, name in tops.items())
    parts = [name for name in _in_order(definitions, [*tops]) if name not in tops]
    sections = [_section(name, definitions, [f"`type: {tops[name]}`"]) for name in tops]
    sections += [_section(name, definitions, [*_uses(definitions, name)]) for name in parts]
    top = _TOP.replace("TYPE", next(iter(KINDS)))
    return "\n".join([top, listed, "", *sections, _values()])


def _section(name: str, definitions: Mapping[str, Node], where: list[str]) -> str:
    definition = definitions[name]
    required = definition.get("required", [])
    rows = [_row(field, node, definitions, field in required) for field, node in definition["properties"].items()]
    head = _table_row("field", "type", "default", "range", "meaning"), "|---|---|---|---|---|"
    return "\n".join([f"## {name}", "", f"{_text(definition)} In: {', '.join(where)}.", "", *head, *rows, ""])


def _row(field: str, node: Node, definitions: Mapping[str, Node], is_required: bool) -> str:  # noqa: FBT001 - a column
    default = "required" if is_required else _default(node)
    # Pydantic omits the description of a field that is equal to that of its type.
    meaning = _text(node) or " ".join(_text(definitions[it]) for it in _references(node))
    return _table_row(f"`{field}`", _type(node), default, _range(node), meaning)


def _table_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _values() -> str:
    rows = [_table_row(title, _text(node)) for title, node in sorted(_named().items())]
    head = _table_row("type", "meaning"), "|---|---|"
    return "\n".join(["## Types of values", "", *head, *rows, ""])


@functools.cache
def _named() -> Mapping[str, Node]:
    found = [TypeAdapter(kind).json_schema() for kind in _TYPES]
    return {node["title"]: node for node in found}


def _in_order(definitions: Mapping[str, Node], names: list[str]) -> list[str]:
    """Return the names of definitions in the order in which they appear on the page."""
    found = [*names]
    for name in found:  # the list grows during the loop
        found += [it for it in _references(definitions[name]["properties"]) if it not in found]
    return found


def _uses(definitions: Mapping[str, Node], name: str) -> Iterator[str]:
    for user, definition in definitions.items():
        for field, node in definition["properties"].items():
            if name in {*_references(node)}:
                yield f"`{field}` of [{user}](#{user.lower()})"


def _references(node: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(node, list):
        for one in node:
            yield from _references(one)
    elif isinstance(node, Mapping):
        if "$ref" in node:
            yield str(node["$ref"]).rpartition("/")[2]
        for one in node.values():
            yield from _references(one)


def _given(node: Node) -> Node:
    """Return the schema of a field without null."""
    if "title" in node or "anyOf" not in node:
        return node
    others = [one for one in node["anyOf"] if one.get("type") != "null"]
    return others[0] if len(others) == 1 else {"anyOf": others}


def _type(node: Node) -> str:
    node = _given(node)
    if "$ref" in node:
        name = str(node["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    # Pydantic omits the title of a map's values.
    known = (title for title, named in _named().items() if named == {**node, "title": title})
    if title := node.get("title") or next(known, None):
        return f"[{title}](#types-of-values)"
    if "anyOf" in node:
        return " or ".join(_type(one) for one in node["anyOf"])
    if node.get("type") == "array":
        return f"list of {_type(node['items'])}"
    if node.get("type") == "object":
        key, value = _pair(node)
        return f"map of {_type(key)} to {_type(value)}"
    return "date" if node.get("format") == "date" else _PLAIN[node.get("type", "string")]


def _pair(node: Node) -> tuple[Node, Node]:
    """Return the schemas of the keys and the values of a map."""
    if "patternProperties" in node:
        ((pattern, value),) = node["patternProperties"].items()
        return next(it for it in _named().values() if it.get("pattern") == pattern), value
    return node.get("propertyNames", {"type": "string"}), node["additionalProperties"]


def _default(node: Node) -> str:
    if "default" not in node:
        return "its defaults"
    value = node["default"]
    return "unset" if value is None else _code(value)


def _range(node: Node) -> str:
    node = _given(node)
    if "enum" in node or "const" in node:
        return _cell(", ".join(_code(one) for one in node.get("enum", [node.get("const")])))
    if node.get("type") == "array":
        inner = _range(node["items"])
        least = f"at least {node['minItems']}" if "minItems" in node else ""
        return "; ".join(part for part in (least, inner) if part)
    if node.get("type") == "object":
        return "" if "title" in node else "; ".join(part for part in map(_range, _pair(node)) if part)
    if node.get("minLength") == 1 and "title" not in node:
        return "not empty"
    return _bounds(node)


def _bounds(node: Node) -> str:
    least, most = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if least is not None and least == most:
        return _number(least)
    if least is not None and most is not None:
        return f"{_number(least)} to {_number(most)}"
    lower = f"above {_number(above)}" if above is not None else f"from {_number(least)}" if least is not None else ""
    upper = f"below {_number(below)}" if below is not None else f"at most {_number(most)}" if most is not None else ""
    return ", ".join(part for part in (lower, upper) if part)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _code(value: object) -> str:
    is_plain = isinstance(value, str) and value.isprintable() and not {*value} & {'"', "'"} and value != ""
    return f"`{value if is_plain else json.dumps(value)}`"


def _text(node: Node) -> str:
    return _cell(" ".join(str(node.get("description", "")).split()))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
