"""Errors that a person can mend, which the command prints without a stack trace.

Everything else is a defect and keeps its trace.
"""

from ml_assets.contracts.errors import ContractError, DataError
from resources.dagster_server import ServerError
from resources.errors import LakeError, SourceError, WarehouseError
from resources.settings import SettingsError

KNOWN = (ContractError, DataError, LakeError, WarehouseError, SourceError, SettingsError, ServerError)
