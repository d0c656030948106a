"""What `dg scaffold defs ml_assets.Model NAME` writes: a declaration that `dg check yaml` accepts."""

import importlib.resources
import re
from datetime import date
from typing import Any, Final

import dagster as dg
from jinja2 import Environment, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field

from ml_assets.contracts.artifacts.training import Task
from ml_assets.contracts.errors import ContractError
from ml_assets.declaration.reading import read_declaration

_TABLE_ID: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"


class _Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    first_day: date = Field(default=date(2025, 1, 1), description="First day of the data.")


class ModelParams(_Params):
    """The options of `dg scaffold defs ml_assets.Model NAME`."""

    table: str = Field(pattern=_TABLE_ID, description="The dbt model with the features.")
    target: str = Field(pattern=_TABLE_ID, description="The column to predict.")
    labels: str | None = Field(
        default=None, pattern=_TABLE_ID, description="The dbt model with the target; the features' if absent."
    )
    task: Task = Field(default="binary", description="binary, regression, multiclass or ranking.")
    query: str | None = Field(default=None, pattern=_TABLE_ID, description="Of a ranking: rows are ranked within it.")
    key: str = Field(default="id", pattern=_TABLE_ID, description="The column that identifies a row.")
    event_time: str = Field(default="event_at", pattern=_TABLE_ID, description="When the event happened.")
    prediction_time: str = Field(default="prediction_at", pattern=_TABLE_ID, description="When it is predicted.")
    known_time: str = Field(default="known_at", pattern=_TABLE_ID, description="When the target was known.")


class _Scaffolder(dg.Scaffolder[Any]):
    """Writes a declaration from a template."""

    template: str
    params: type[BaseModel]

    @classmethod
    def get_scaffold_params(cls) -> type[BaseModel]:
        """Return the options of the command."""
        return cls.params

    def values(self, request: dg.ScaffoldRequest[Any]) -> dict[str, Any]:
        """Return what the template uses."""
        return {**request.params.model_dump(), "name": request.target_path.name}

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write `defs.yaml`.

        Raises:
            ContractError: the format is not YAML, or the name cannot be a model's.
        """
        if request.scaffold_format != "yaml":
            raise ContractError("a declaration is YAML. Leave the option --format out.")
        text = (
            importlib.resources.files("ml_assets").joinpath("templates", "scaffold", self.template).read_text("utf-8")
        )
        jinja = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - YAML
        written = jinja.from_string(text).render(self.values(request))
        path = request.target_path / "defs.yaml"
        read_declaration(written, where=str(path))
        with path.open("a" if request.append else "w", encoding="utf-8") as file:
            file.write(f"---\n{written}" if request.append else written)


class ModelScaffolder(_Scaffolder):
    """Declares a model on a table of features and a target."""

    template = "model.yaml.jinja"
    params = ModelParams

    def values(self, request: dg.ScaffoldRequest[Any]) -> dict[str, Any]:
        """Return what the template uses; without a table of labels, the target is in the table of features."""
        given = super().values(request)
        return {**given, "labels": given["labels"] or given["table"]}


class RawTablesParams(_Params):
    """The options of `dg scaffold defs ml_assets.RawTables NAME`."""

    file: str = Field(description="A CSV or Parquet file.")
    table: str | None = Field(default=None, pattern=_TABLE_ID, description="Name of the table; the file's if absent.")


class RawTablesScaffolder(_Scaffolder):
    """Declares one source table."""

    template = "raw.yaml.jinja"
    params = RawTablesParams

    def values(self, request: dg.ScaffoldRequest[Any]) -> dict[str, Any]:
        """Return what the template uses; without a name, the table has that of its file."""
        given = super().values(request)
        stem = given["file"].rpartition("/")[2].partition(".")[0].lower()
        return {**given, "table": given["table"] or re.sub(r"\W", "_", stem)}


class TablesScaffolder(_Scaffolder):
    """Declares the dbt project's models as tables."""

    template = "tables.yaml.jinja"
    params = _Params
