"""Each declaration as a Dagster component: a slice of the one assembly of its `defs/` folder.

The assets are those of `ml_assets.build` over the same folder. Several declarations are checked against each other, so
the first component assembles all of them, and each returns the part that its file declares.
"""

import functools
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import dagster as dg
from pydantic import BaseModel

from ml_assets.assembly import build_from
from ml_assets.automation.standard import standard_automation
from ml_assets.components.scaffolding import ModelScaffolder, RawTablesScaffolder, TablesScaffolder
from ml_assets.contracts.errors import ContractError
from ml_assets.declaration.automation import AutomationDeclaration
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.tables import RawDeclaration, TablesDeclaration
from ml_assets.models.plan import quarantine_key
from ml_assets.orchestration.location import Overrides, current_overrides
from ml_assets.project import find_project
from ml_assets.stages.tables import step_names

D = TypeVar("D", ModelDeclaration, RawDeclaration, TablesDeclaration, AutomationDeclaration)


class _Declared(dg.Component, Generic[D]):
    """A component around one declaration."""

    kind: type[D]
    declaration: D

    def __init__(self, declaration: D) -> None:
        self.declaration = declaration

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return the type of the YAML's attributes."""
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

    def declares(self, key: dg.AssetKey) -> bool:
        """Return whether an asset is one that this declaration declares."""
        raise NotImplementedError

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return what the declaration declares, and the resources that it runs on.

        Raises:
            DeclarationError: a declaration of the folder cannot be used.
            ContractError: a declaration contradicts another one, or the contract of a table.
        """
        whole = _assembled(context.defs_module_path, current_overrides())
        return dg.Definitions(**self.part_of(whole), resources=whole.resources, loggers=whole.loggers)

    def part_of(self, whole: dg.Definitions) -> dict[str, Any]:
        """Return what the declaration declares."""
        assets = [it for it in whole.assets or () if isinstance(it, dg.AssetsDefinition)]
        checks = whole.asset_checks or ()
        return {
            "assets": [it for it in assets if any(map(self.declares, it.keys))],
            "asset_checks": [it for it in checks if any(self.declares(at.asset_key) for at in it.check_keys)],
        }


@dg.scaffold_with(ModelScaffolder)
class Model(_Declared[ModelDeclaration]):
    """A model: its features, labels, training, evaluation, champion, predictions and monitoring."""

    kind = ModelDeclaration

    def declares(self, key: dg.AssetKey) -> bool:
        """Return whether an asset is a stage of the model, or of a model of its `for_each`."""
        return key.path[0] in self._names

    @functools.cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(model.name for model in self.declaration.members)


@dg.scaffold_with(RawTablesScaffolder)
class RawTables(_Declared[RawDeclaration]):
    """Source tables that are landed as they come."""

    kind = RawDeclaration

    def declares(self, key: dg.AssetKey) -> bool:
        """Return whether an asset is one of the tables, or holds their quarantined rows."""
        keys = [dg.AssetKey(["raw", name]) for name in self.declaration.tables]
        return key in {*keys, *map(quarantine_key, keys)}


@dg.scaffold_with(TablesScaffolder)
class DbtTables(_Declared[TablesDeclaration]):
    """The dbt project's models as tables of the lake."""

    kind = TablesDeclaration

    def part_of(self, whole: dg.Definitions) -> dict[str, Any]:
        """Return the tables with their quarantined rows and checks."""
        assets = [
            it
            for it in whole.assets or ()
            if isinstance(it, dg.AssetsDefinition) and it.op.name in step_names(self.declaration)
        ]
        keys = {key for it in assets for key in it.keys}
        checks = [it for it in whole.asset_checks or () if any(at.asset_key in keys for at in it.check_keys)]
        return {"assets": assets, "asset_checks": checks}


class Automation(_Declared[AutomationDeclaration]):
    """All sensors and schedules with their jobs; a folder without this declaration has none."""

    kind = AutomationDeclaration

    def part_of(self, whole: dg.Definitions) -> dict[str, Any]:
        """Return the sensors, schedules and jobs, and what the sensors report."""
        reported = [it for it in whole.assets or () if isinstance(it, dg.AssetSpec)]
        return {"assets": reported, "sensors": whole.sensors, "schedules": whole.schedules, "jobs": whole.jobs}


@functools.lru_cache(maxsize=1)
def _assembled(declarations: Path, overrides: Overrides) -> dg.Definitions:  # noqa: ARG001 - others give other objects
    """Return the code location of a folder; Dagster merges resources of one key only if they are one object."""
    return build_from(declarations, find_project(), sensors=[standard_automation])
