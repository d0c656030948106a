"""Find the lines of fields in a YAML text, so that errors can name them.

Not here: which fields are allowed (see `ml_assets.declaration.reading` and `ml_assets.contracts.from_dbt`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DATE = "tag:yaml.org,2002:timestamp"
_INT = "tag:yaml.org,2002:int"
_NAMES = ("name", "type", "test_name")
MOST_CHARACTERS = 2**20
MOST_DEPTH = 50
"""Maximum depth. To compose a text with ten thousand levels would crash the process."""
_TOO_DEEP = f"it is nested deeper than {MOST_DEPTH} levels; reduce the nesting"

MOST_VALUES = 100_000
"""Maximum number of values, with every alias expanded."""

MOST_DIGITS = 300


class YamlError(ValueError):
    """A file is not YAML, or YAML would silently read a value as something else.

    Attributes:
        line: the line, from 1.
        problem: the reason, as a clause.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line, self.problem = line, problem


def text_of(data: bytes) -> str:
    """Return a file's text.

    Raises:
        YamlError: it is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise YamlError(line, "it has bytes that are not UTF-8; save the file in UTF-8") from error


def compose(text: str) -> yaml.Node | None:
    """Return a YAML text as nodes with their lines.

    Raises:
        YamlError: it is not YAML, or is larger or nested deeper than any valid declaration.
    """
    if len(text) > MOST_CHARACTERS:
        raise YamlError(1, f"it has {len(text):,} characters; expected at most {MOST_CHARACTERS:,}. Split the file")
    try:
        _check_depth(text)
        node: yaml.Node | None = yaml.compose(text, _Loader)
        if node is not None:
            _size(node, {})
    except yaml.reader.ReaderError as error:
        raise YamlError(text.count("\n", 0, error.position) + 1, f"not YAML: {error.reason}") from error
    except yaml.YAMLError as error:
        raise _error(error) from error
    return node


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise YamlError(line, _TOO_DEEP)


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return the number of values of a node with aliases expanded; raise an error if there are too many."""
    if id(node) in sizes:
        if sizes[id(node)]:
            return sizes[id(node)]
        raise YamlError(node.start_mark.line + 1, "an alias refers to a value that contains it; write the value out")
    sizes[id(node)] = 0  # not known yet
    inside = [] if isinstance(node, yaml.ScalarNode) else [*node.value]
    if isinstance(node, yaml.MappingNode):
        inside = [one for pair in inside for one in pair]
    size = 1 + sum(_size(one, sizes) for one in inside)
    if size > MOST_VALUES:
        line = node.start_mark.line + 1
        raise YamlError(line, f"it has more than {MOST_VALUES:,} values, with aliases expanded; split it")
    sizes[id(node)] = size
    return size


def _error(error: yaml.YAMLError) -> YamlError:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", error)
    is_too_deep = problem == "exceeded maximum nesting depth"  # libyaml of PyYAML 6.0.4 finds it before `_check_depth`
    return YamlError(mark.line + 1 if mark else 1, _TOO_DEEP if is_too_deep else f"not YAML: {problem}")


def load(text: str) -> object:
    """Return the content of a YAML text that has no `problems`.

    Raises:
        YamlError: it has a tag or a key that no declaration has.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader, the C one where there is one
    except yaml.constructor.ConstructorError as error:
        raise _error(error) from error


def problems(text: str) -> Iterator[YamlError]:
    """Yield why a text is not YAML, and values that YAML would silently misread, in the order of lines."""
    try:
        root = compose(text)
    except YamlError as error:
        yield error
        return
    found = [*_problems(root, set())]
    yield from sorted(found, key=lambda it: it.line)


def line_of(root: yaml.Node | None, loc: Sequence[int | str]) -> int:
    """Return the line (from 1) of the deepest part of a path that exists in the text."""
    return _deepest(root, loc)[1]


def line_of_first(root: yaml.Node | None, locs: Sequence[Sequence[str]]) -> int:
    """Return the line (from 1) of the path that is found deepest in the text."""
    return max((_deepest(root, loc) for loc in locs), key=lambda found: found[0])[1]


def _problems(node: yaml.Node | None, seen: set[int]) -> Iterator[YamlError]:
    """Yield fields that are given more than once (YAML takes the last one), and dates that do not exist."""
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode) and node.tag == _DATE:
        try:
            _Loader("").construct_yaml_timestamp(node)
        except ValueError as error:
            yield YamlError(node.start_mark.line + 1, f"there is no date '{node.value}': {error}")
    if isinstance(node, yaml.ScalarNode) and node.tag == _INT and len(node.value) > MOST_DIGITS:
        yield YamlError(node.start_mark.line + 1, f"a number of {len(node.value):,} digits; expected a smaller one")
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _problems(item, seen)
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in names:
                yield YamlError(key.start_mark.line + 1, f"{name}: is given twice; remove one")
            names.add(name)
            yield from _problems(value, seen)


def _deepest(root: yaml.Node | None, loc: Sequence[int | str]) -> tuple[int, int]:
    """Return how many parts of a path exist in the text, and the line of the last of them."""
    node, line = root, 1
    for depth, part in enumerate(loc):
        found = _inside(node, part)
        if found is None:
            return depth, line
        line, node = found
    return len(loc), line


def _inside(node: yaml.Node | None, part: int | str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((k.start_mark.line + 1, v) for k, v in node.value if k.value == str(part)), None)
    if not isinstance(node, yaml.SequenceNode):
        return None
    if isinstance(part, str):
        return _named(node, part)
    item = node.value[part] if part < len(node.value) else None
    return None if item is None else (item.start_mark.line + 1, item)


def _named(node: yaml.SequenceNode, part: str) -> tuple[int, yaml.Node] | None:
    """Return the item of a list with this name: by its `name` or `type`, as a bare word, or by its only field."""
    fields = [(item, {k.value: v for k, v in item.value}) for item in node.value if isinstance(item, yaml.MappingNode)]
    for item, values in fields:
        if any(name in values and values[name].value == part for name in _NAMES):
            return item.start_mark.line + 1, item
    for item in node.value:
        if isinstance(item, yaml.ScalarNode) and item.value == part:
            return item.start_mark.line + 1, item
    return next(((item.start_mark.line + 1, values[part]) for item, values in fields if part in values), None)
