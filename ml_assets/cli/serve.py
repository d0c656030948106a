"""`ml-assets serve MODEL...`: answers requests over HTTP with the current champions."""

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ml_assets.contracts.errors import DataError

if TYPE_CHECKING:
    from ml_assets.declaration.model import ModelDeclaration
    from ml_assets.project import Project


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("serve", help="answer requests over HTTP with the current champions")
    command.add_argument("models", metavar="MODEL", nargs="+")
    command.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default: 127.0.0.1)")
    command.add_argument("--port", type=int, default=8080, metavar="N", help="the port (default: 8080)")
    command.add_argument(
        "--pin", metavar="VERSION", help="serve this former or current champion, whatever is promoted (one MODEL)"
    )
    command.add_argument("--no-log", action="store_true", help="do not store the scored rows in the lake")
    command.set_defaults(function=serve, needs_dagster=False)


def serve(arguments: argparse.Namespace) -> int:
    """Serve the models until the process is asked to end.

    Raises:
        DataError: a model has no champion, a champion fails its check, or the address or a setting is wrong.
        ContractError: a champion or a declaration cannot be read.
        ExtraMissingError: the extra `serve` is not installed.
    """
    if not 0 <= arguments.port <= 65_535:
        raise DataError(f"--port is {arguments.port}; expected a number from 0 to 65535.")
    if arguments.pin is not None and len(arguments.models) > 1:
        raise DataError(f"--pin names a version of one model, and {len(arguments.models)} are named; serve it alone.")
    import importlib.metadata

    from ml_assets.alerts.settings import AlertSettings
    from ml_assets.lake.store import Lake
    from ml_assets.project import add_project_to_path
    from ml_assets.serving.alerting import alert_degenerate_output, alert_refusals
    from ml_assets.serving.app import Application
    from ml_assets.serving.log_policy import log_policies
    from ml_assets.serving.metrics import Metrics
    from ml_assets.serving.output_watch import OutputWatch
    from ml_assets.serving.registry import Registry
    from ml_assets.serving.request_log import RequestLog
    from ml_assets.serving.server import Address, bound_socket, serve_until_stopped, serving_token
    from ml_assets.serving.tracing import spans_from_environment
    from ml_assets.settings import lake_url

    release = importlib.metadata.version("ml-assets")
    address = Address(arguments.host, arguments.port)
    token, settings = serving_token(address), AlertSettings()
    if (problem := next(settings.problems(), None)) is not None:
        raise DataError(problem)
    add_project_to_path()
    pinned = {} if arguments.pin is None else {arguments.models[0]: arguments.pin}
    names = [*dict.fromkeys(arguments.models)]
    models = declared_models()
    declared = {it.name: it.serving for it in models}
    challengers = {it.name: it.challengers for it in models}
    registry = Registry.open(Lake(lake_url()), names, pinned, public_keys(names), declared, challengers=challengers)
    metrics = Metrics()
    logged = [] if arguments.no_log else [registry[name] for name in registry.names]
    policies = log_policies(logged, declared)
    limits = {name: its.alarms for name, its in declared.items()}
    application = Application(
        registry,
        metrics=metrics,
        log=RequestLog(registry.lake, policies, metrics) if policies else None,
        watch=OutputWatch(limits, alert_degenerate_output(registry.lake, settings)),
        spans=spans_from_environment(release),
        token=token,
        on_swap=alert_refusals(registry.lake, settings),
        release=release,
    )
    serve_until_stopped(application, bound_socket(address))
    return 0


def declared_models() -> Sequence["ModelDeclaration"]:
    """Return the models that the current project declares; none without a project.

    Raises:
        DeclarationError: a declaration has an error.
        ProjectError: the environment names a folder that is not a project.
    """
    from ml_assets.declaration.reading import read_all

    project = _project()
    return () if project is None else read_all(project.declarations).models


def public_keys(models: Sequence[str]) -> Mapping[str, frozenset[str]]:
    """Return the columns of each model's key that the project's contracts do not mark as personal.

    Models without a declaration or a parsed dbt project are absent.

    Raises:
        As `declared_models`.
        ContractError: a contract has an error.
    """
    from ml_assets.declaration.reading import read_all
    from ml_assets.warehouse.project_contracts import read_contracts, read_manifest

    project = _project()
    if project is None or not (project.dbt / "target" / "manifest.json").is_file():
        return {}
    declared = [it for it in read_all(project.declarations).models if it.name in models]
    contracts = read_contracts(read_manifest(project.dbt), project.dbt) if declared else {}
    return {
        it.name: frozenset(it.features.key) - contracts[it.features.table].personal
        for it in declared
        if it.features.table in contracts
    }


def _project() -> "Project | None":
    from ml_assets.project import PROJECT, ProjectError, find_project

    try:
        return find_project()
    except ProjectError:
        if PROJECT in os.environ:
            raise
        return None  # a service needs the lake only
