"""The extras of the distribution, and the error where one is needed but not installed."""

import importlib.util
from typing import Final

PACKAGES: Final = {
    "alerts": ("apprise",),
    "dask": ("dask", "distributed", "pandas", "sklearn"),
    "k8s": ("dagster_k8s", "kubernetes"),
    "postgres": ("dagster_postgres", "psycopg2"),
    "serve": ("uvicorn", "httptools", "uvloop"),
    "xgboost": ("xgboost",),
}
"""The import names that each extra brings, and that no other module needs."""


class ExtraMissingError(RuntimeError):
    """Something needs an extra that is not installed.

    Attributes:
        reason: which packages are missing, and what needs them.
        command: installs the extra.
    """

    def __init__(self, reason: str, extra: str) -> None:
        self.reason = reason
        self.command = install_command(extra)
        super().__init__(f"{reason} Install the extra: {self.command}")


def install_command(extra: str) -> str:
    """Return what installs an extra."""
    return f"pip install 'ml-assets[{extra}]'"


def missing_packages(extra: str) -> list[str]:
    """Return the packages of an extra that are not installed."""
    return [name for name in PACKAGES[extra] if importlib.util.find_spec(name) is None]


def as_extra_error(error: Exception, *, needed_by: str) -> Exception:
    """Return which extra is missing, or the error itself if its module belongs to no extra."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    for extra, packages in PACKAGES.items():
        if package in packages:
            return ExtraMissingError(f"{needed_by} needs the package {package}, which is not installed.", extra)
    return error
