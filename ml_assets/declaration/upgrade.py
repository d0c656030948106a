"""Rewrites the text of a declaration from its version to the one that this engine reads; comments and layout stay.

`REWRITES` is the list to extend when `VERSION` in `ml_assets.declaration.parts` is raised.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import yaml

from ml_assets.contracts.yaml_lines import compose
from ml_assets.declaration.parts import UNVERSIONED, VERSION
from ml_assets.declaration.reading import DeclarationError, read_attributes, read_declaration, version_of


@dataclass(frozen=True)
class Edit:
    """One change of a text.

    Attributes:
        start: the first character that is replaced, from 0.
        end: the character after the last that is replaced; equal to `start` where text is inserted.
        change: what changes, as a clause such as "renames 'gate.margin' to 'gate.tolerance'".
        reason: why, as a sentence.
    """

    start: int
    end: int
    text: str
    change: str
    reason: str


Rewrite = Callable[[str, yaml.MappingNode], Iterator[Edit]]
"""Yields the edits of a declaration's text, given the text and its node `attributes`."""

REWRITES: Final[Mapping[int, Rewrite]] = {}
"""By version, the rewrite of a declaration of the version before. There is one version, so there is none."""


@dataclass(frozen=True)
class Revision:
    """One change that an upgrade made, and the line (from 1) in which it was made."""

    line: int
    change: str
    reason: str


@dataclass(frozen=True)
class Upgraded:
    """The text of an upgraded declaration, and what was changed in it."""

    text: str
    revisions: tuple[Revision, ...]


def upgrade_declaration(
    text: str, *, where: str, rewrites: Mapping[int, Rewrite] = REWRITES, version: int = VERSION
) -> Upgraded:
    """Return a declaration with all rewrites from its version to a version.

    `rewrites` has, by version, the rewrite of a declaration of the version before.

    Raises:
        DeclarationError: the text is not a declaration, its version is none of 1 to `version`, or the result breaks
            the declaration's rules.
    """
    _, attributes = read_attributes(text, where=where)
    found = version_of(attributes)
    if not isinstance(found, int) or isinstance(found, bool) or not UNVERSIONED <= found <= version:
        raise DeclarationError(
            f"{where}: version: got {found!r}, expected a whole number from {UNVERSIONED} to {version}, the version of "
            "the installed ml-assets. Upgrade ml-assets, or correct the number."
        )
    revisions: list[Revision] = []
    for step in range(found + 1, version + 1):
        edits = [*rewrites[step](text, _attributes(text))] if step in rewrites else []
        revisions += _revisions(text, edits)
        text = _edited(text, edits)
    if revisions or "version" not in attributes:
        edit = _version_edit(text, version)
        revisions += _revisions(text, [edit])
        text = _edited(text, [edit])
    if version == VERSION:
        read_declaration(text, where=where)
    return Upgraded(text, tuple(revisions))


def _attributes(text: str) -> yaml.MappingNode:
    root = compose(text)
    fields = root.value if isinstance(root, yaml.MappingNode) else []
    return next(it for key, it in fields if key.value == "attributes" and isinstance(it, yaml.MappingNode))


def _version_edit(text: str, version: int) -> Edit:
    """Return the edit after which a declaration states its version: as its first field, if it does not state any."""
    attributes = _attributes(text)
    line = f"version: {version}"
    for key, value in attributes.value:
        if key.value == "version":
            reason = "The declaration has the format of this version now."
            return Edit(value.start_mark.index, value.end_mark.index, str(version), f"sets '{line}'", reason)
    reason = "A declaration states the version of its format, so that a later ml-assets can upgrade it."
    if attributes.flow_style:
        at = attributes.start_mark.index + 1
        return Edit(at, at, f"{line}, " if attributes.value else line, f"adds '{line}'", reason)
    first = attributes.value[0][0].start_mark
    end = "\r\n" if "\r\n" in text else "\n"
    return Edit(first.index, first.index, f"{line}{end}{' ' * first.column}", f"adds '{line}'", reason)


def _revisions(text: str, edits: Sequence[Edit]) -> list[Revision]:
    return [Revision(text.count("\n", 0, it.start) + 1, it.change, it.reason) for it in edits]


def _edited(text: str, edits: Sequence[Edit]) -> str:
    for edit in sorted(edits, key=lambda it: it.start, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text
