"""Each declaration as a Dagster component: the same assets and checks as `ml_assets.assembly.build` makes of them."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import dagster as dg
from pydantic import BaseModel

from ml_assets.assembly import assets_of, checks_of, lake_resources
from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.table import TableContract
from ml_assets.declaration.automation import AutomationDeclaration
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.declaration.tables import RawDeclaration, TablesDeclaration
from ml_assets.lake.resource import LakeResource
from ml_assets.project import find_project
from ml_assets.warehouse.project_contracts import read_contracts, read_manifest

D = TypeVar("D", ModelDeclaration, RawDeclaration, TablesDeclaration, AutomationDeclaration)


class _Declared(dg.Component, Generic[D]):
    """A component around one declaration.

    Dagster's own loader of components takes ten times as long as `ml_assets.assembly.build` over the same files, so
    the code location is built by the latter; both call `assets_of` and `checks_of`.
    """

    kind: type[D]
    declaration: D

    def __init__(self, declaration: D) -> None:
        self.declaration = declaration

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return what the YAML's attributes may say."""
        return cls.kind

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:  # noqa: ARG003
        """Return the component of validated attributes.

        Raises:
            ContractError: there are none.
        """
        if not isinstance(attributes, cls.kind):
            raise ContractError(f"a component of type {cls.__name__} needs attributes; see {cls.kind.__name__}.")
        return cls(attributes)

    def declared(self) -> Declared:
        """Return the declaration as a project of its own."""
        raise NotImplementedError

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002 - dagster's signature
        """Return the assets and checks of the declaration, and the resources they run on."""
        project = _project(find_project().dbt)
        declared = self.declared()
        assets = assets_of(declared, project.manifest, project.contracts)
        checks = checks_of(declared, assets, project.manifest)
        return dg.Definitions(assets=assets, asset_checks=checks, resources=project.resources)


class Model(_Declared[ModelDeclaration]):
    """A model: its features, labels, training, evaluation, champion, predictions and what watches them."""

    kind = ModelDeclaration

    def declared(self) -> Declared:
        """Return the declaration as a project of its own."""
        return Declared(models=(self.declaration,))


class RawTables(_Declared[RawDeclaration]):
    """Source tables that are landed as they come."""

    kind = RawDeclaration

    def declared(self) -> Declared:
        """Return the declaration as a project of its own."""
        return Declared(raw=(self.declaration,))


class DbtTables(_Declared[TablesDeclaration]):
    """The dbt project's models as tables of the lake."""

    kind = TablesDeclaration

    def declared(self) -> Declared:
        """Return the declaration as a project of its own."""
        return Declared(tables=(self.declaration,))


class Automation(_Declared[AutomationDeclaration]):
    """What runs without anybody asking, and when."""

    kind = AutomationDeclaration

    def declared(self) -> Declared:
        """Return the declaration as a project of its own."""
        return Declared(automation=self.declaration)


@dataclass(frozen=True)
class _Project:
    """What all components of a process share; Dagster merges resources of the same name only if they are the same."""

    manifest: Mapping[str, Any]
    contracts: Mapping[str, TableContract]
    resources: Mapping[str, Any]


@functools.lru_cache(maxsize=1)
def _project(project_dir: Path) -> _Project:
    manifest = read_manifest(project_dir)
    return _Project(manifest, read_contracts(manifest, project_dir), lake_resources(LakeResource(), project_dir))
