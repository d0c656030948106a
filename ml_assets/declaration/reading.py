"""Read declarations from YAML. Each error names the file, the line and the field.

Not here: how a declaration becomes assets (see `ml_assets.assembly`).
"""

import difflib
import itertools
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from ml_assets.contracts.errors import ContractError, near
from ml_assets.contracts.periods import DAILY, Calendar
from ml_assets.contracts.yaml_lines import YamlError, compose, line_of, load, problems, text_of
from ml_assets.declaration.automation import AutomationDeclaration
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.parts import UNVERSIONED, Days, Declaration, version_problem
from ml_assets.declaration.tables import RawDeclaration, TablesDeclaration
from ml_assets.secrets import has_secret, redact


class DeclarationError(ContractError):
    """A declaration is not valid; the message lists every error with file, line and field."""


KINDS: Mapping[str, type[Declaration]] = {
    "ml_assets.Model": ModelDeclaration,
    "ml_assets.RawTables": RawDeclaration,
    "ml_assets.DbtTables": TablesDeclaration,
    "ml_assets.Automation": AutomationDeclaration,
}
_FILE = ("type", "attributes")
"""The fields of a file."""
_TYPE = re.compile(r"""^type:[ ]*["']?([A-Za-z_]\w*\.[\w.]+)""", re.MULTILINE)
"""A component of a package; a name without a dot is not one."""
_SHOWN = 200
"""Characters of a wrong value in a message."""


@dataclass(frozen=True)
class Declared:
    """All declarations of a project. Each model of a `for_each` is one of the models."""

    models: tuple[ModelDeclaration, ...] = ()
    raw: tuple[RawDeclaration, ...] = ()
    tables: tuple[TablesDeclaration, ...] = ()
    automation: AutomationDeclaration = field(default_factory=AutomationDeclaration)

    @property
    def timezone(self) -> str:
        """The time zone of the days of all declarations."""
        declared: Iterator[ModelDeclaration | RawDeclaration | TablesDeclaration]
        declared = itertools.chain(self.models, self.raw, self.tables)
        return next((it.days.timezone for it in declared), "UTC")

    def tables_with(self, table: str) -> TablesDeclaration | None:
        """Return the declaration that a dbt model belongs to: the one that names it, or else the one without names."""
        by_name = {name: it for it in self.tables for name in it.models or ()}
        return by_name.get(table) or next((it for it in self.tables if it.models is None), None)

    @property
    def calendar(self) -> Calendar:
        """The periods of all declarations."""
        declared: Iterator[ModelDeclaration | RawDeclaration | TablesDeclaration]
        declared = itertools.chain(self.models, self.raw, self.tables)
        return next((it.days.calendar for it in declared), DAILY)

    def model(self, name: str) -> ModelDeclaration:
        """Return one model's declaration.

        Raises:
            DeclarationError: there is no model of this name.
        """
        for model in self.models:
            if model.name == name:
                return model
        known = [model.name for model in self.models]
        raise DeclarationError(f"there is no model '{name}'; expected one of {', '.join(known)}{near(name, known)}.")

    @property
    def families(self) -> dict[str, tuple[ModelDeclaration, ...]]:
        """The models of each file, by the name in the file."""
        found: dict[str, tuple[ModelDeclaration, ...]] = {}
        for model in self.models:
            found[model.family] = (*found.get(model.family, ()), model)
        return found

    def named(self, name: str | None) -> tuple[ModelDeclaration, ...]:
        """Return one model or, if the name is that of a `for_each`, all its models; by default those of the only file.

        Raises:
            DeclarationError: there is no model of this name, or no name and several files.
        """
        families = self.families
        if name is None and len(families) == 1:
            return next(iter(families.values()))
        return families.get(name or "") or (self.only_model() if name is None else self.model(name),)

    def only_model(self) -> ModelDeclaration:
        """Return the declaration of the project's only model.

        Raises:
            DeclarationError: the project has none, or several.
        """
        if len(self.models) == 1:
            return self.models[0]
        if not self.models:
            raise DeclarationError("the project declares no model; expected a file defs/NAME/defs.yaml.")
        names = ", ".join(self.families)
        raise DeclarationError(f"the project declares several models; name one of {names}.")


def read_all(folder: Path) -> Declared:
    """Return every declaration under a folder (`*/defs.yaml`), in the order of their paths.

    Files with a component of another package are not declarations of the engine, and are left to Dagster.

    Raises:
        DeclarationError: declarations are not valid; the message lists all errors.
    """
    errors: list[str] = []
    found: list[Declaration] = []
    names: dict[str, Path] = {}
    days: list[tuple[Days, Path]] = []
    automated: Path | None = None
    for path in sorted(it for it in folder.glob("**/defs.yaml") if not _is_of_another_package(it)):
        try:
            declaration = _read_file(path)
        except DeclarationError as error:
            errors.append(str(error))
            continue
        found.append(declaration)
        if isinstance(declaration, ModelDeclaration | RawDeclaration | TablesDeclaration):
            days.append((declaration.days, path))
        if isinstance(declaration, ModelDeclaration):
            own = {declaration.name, *(model.name for model in declaration.members)}
            errors += [f"{path}: model '{it}' is also declared in {names[it]}." for it in sorted(own & names.keys())]
            names |= dict.fromkeys(own, path)
        if isinstance(declaration, AutomationDeclaration):
            if automated is not None:
                errors.append(f"{path}: automation is also declared in {automated}; remove one.")
            automated = path
    errors += _different_days(days)
    if errors:
        raise DeclarationError("\n".join(errors))
    return Declared(
        models=tuple(model for d in found if isinstance(d, ModelDeclaration) for model in d.members),
        raw=tuple(d for d in found if isinstance(d, RawDeclaration)),
        tables=tuple(d for d in found if isinstance(d, TablesDeclaration)),
        automation=next((d for d in found if isinstance(d, AutomationDeclaration)), AutomationDeclaration()),
    )


def _different_days(found: Sequence[tuple[Days, Path]]) -> Iterator[str]:
    """Yield an error if declarations have days of different time zones or grains."""
    zones: dict[str, Path] = {}
    grains: dict[str, Path] = {}
    for days, path in found:
        zones.setdefault(days.timezone, path)
        grains.setdefault(days.grain, path)
    if len(zones) > 1:
        listed = ", ".join(f"{zone} ({path})" for zone, path in zones.items())
        yield (
            f"'days' have several time zones: {listed}; expected one, because a model's day is built from the same day "
            "of its tables. Give all declarations the same 'timezone' under 'days'."
        )
    if len(grains) > 1:
        listed = ", ".join(f"{grain} ({path})" for grain, path in grains.items())
        yield (
            f"'days' have several grains: {listed}; expected one, because a partition of a model is built from the "
            "same partitions of its tables. Give all declarations the same 'grain' under 'days'."
        )


def _read_file(path: Path) -> Declaration:
    try:
        return read_declaration(text_of(path.read_bytes()), where=str(path))
    except YamlError as error:
        raise DeclarationError(f"{path}:{error.line}: {error.problem}.") from error
    except OSError as error:
        raise DeclarationError(f"{path} cannot be read: {error.strerror}. Correct the file, or delete it.") from error


def _is_of_another_package(path: Path) -> bool:
    """Return whether each `type:` of a file names another package, and none is a misspelling of the engine's."""
    try:
        text = text_of(path.read_bytes())
    except (YamlError, OSError):  # reported when the file is read as a declaration
        return False
    packages = [found.partition(".")[0] for found in _TYPE.findall(text)]
    return bool(packages) and not any(difflib.get_close_matches("ml_assets", [it], cutoff=0.8) for it in packages)


def read_declaration(text: str, *, where: str) -> Declaration:
    """Return the declaration in a YAML text.

    Raises:
        DeclarationError: it is not YAML, has another version, or breaks the declaration's rules; every error is listed.
    """
    kind, attributes = read_attributes(text, where=where)
    if problem := version_problem(version_of(attributes)):
        raise DeclarationError(f"{where}:{line_of(compose(text), ('attributes', 'version'))}: version: {problem}.")
    try:
        return kind.model_validate(attributes).read_from(where, text)
    except ValidationError as error:
        raise DeclarationError("\n".join(_errors(error, kind, text, where))) from error


def read_attributes(text: str, *, where: str) -> tuple[type[Declaration], Mapping[str, object]]:
    """Return the kind and the attributes of a declaration of any version, as they are written.

    Raises:
        DeclarationError: it is not YAML, or not a file of `type` and `attributes`; every error is listed.
    """
    if wrong := [f"{where}:{it.line}: {it.problem}." for it in problems(text)]:
        raise DeclarationError("\n".join(wrong))
    try:
        content = load(text)
    except YamlError as error:
        raise DeclarationError(f"{where}:{error.line}: {error.problem}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("attributes"), dict):
        raise DeclarationError(f"{where}:1: expected 'type:' and 'attributes:', got {type(content).__name__}.")
    root = compose(text)
    wrong = [
        f"{where}:{line_of(root, (str(name),))}: {name}: there is no such field; expected one of {', '.join(_FILE)}"
        f"{near(str(name), _FILE)}."
        for name in content
        if name not in _FILE
    ]
    got = str(content.get("type"))
    if (kind := KINDS.get(got)) is None:
        line = line_of(root, ("type",))
        wrong.append(f"{where}:{line}: type: expected one of {', '.join(KINDS)}, got '{got}'{near(got, list(KINDS))}.")
    if kind is None or wrong:
        raise DeclarationError("\n".join(wrong))
    return kind, content["attributes"]


def version_of(attributes: Mapping[str, object]) -> object:
    """Return the version that the attributes of a declaration state, or the default."""
    return attributes.get("version", UNVERSIONED)


def _errors(error: ValidationError, kind: type[BaseModel], text: str, where: str) -> Iterator[str]:
    root = compose(text)
    for problem in error.errors():
        loc = tuple(part for part in problem["loc"] if not _is_union_tag(part))
        field = ".".join(str(part) for part in loc)
        line = line_of(root, ("attributes", *loc))
        names = _siblings(kind, loc)
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"there is no such field; expected one of {', '.join(names)}{near(str(loc[-1]), names)}"
        elif problem["type"] == "missing":
            message = "is missing and has no default"
        else:
            got = problem["input"]
            if not has_secret(repr(got)):
                message = f"{message}, got {redact(repr(got))[:_SHOWN]}{near(str(got), _choices(message))}"
        yield f"{where}:{line}: {field}: {message}."


def _is_union_tag(part: int | str) -> bool:
    """Return whether a part of pydantic's loc names a member of a union instead of a field."""
    return isinstance(part, str) and ("[" in part or part in {"bool", "int", "float", "str"})


def _siblings(kind: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Return the fields that are allowed at the end of `loc`."""
    for part in loc[:-1]:
        field = kind.model_fields.get(str(part))
        if field is None:
            continue
        inner = _models_in(field.annotation)
        if inner is None:
            return []
        kind = inner
    return sorted(kind.model_fields)


def _models_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((m for m in map(_models_in, typing.get_args(annotation)) if m is not None), None)


def _choices(message: str) -> list[str]:
    """Return the literals that a message of pydantic lists."""
    return re.findall(r"'([^']+)'", message)
