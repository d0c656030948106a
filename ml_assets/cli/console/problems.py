"""The errors that a user can fix, which the command prints without a traceback.

Every other error is a defect and keeps its traceback.
"""

from ml_assets.cli.flow.dagster_server import ServerError
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.extras import ExtraMissingError
from ml_assets.lake.errors import LakeError, SourceError, WarehouseError
from ml_assets.project import ProjectError
from ml_assets.settings import SettingsError

KNOWN = (
    ContractError, DataError, ExtraMissingError, LakeError, ProjectError, ServerError, SettingsError, SourceError,
    WarehouseError,
)  # fmt: skip
