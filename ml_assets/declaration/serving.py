"""The settings of the prediction service for a model: what its request log stores."""

from typing import Annotated

from pydantic import Field

from ml_assets.declaration.parts import ColumnName, Part


class ServingSettings(Part):
    """What `ml-assets serve MODEL` stores of the requests that it answers."""

    log: bool = Field(
        default=True, description="Whether each row that was scored is stored in the lake, with its score."
    )
    sample: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="Share of the requests that are stored, chosen at random. All rows of one are."
    )
    hash: tuple[ColumnName, ...] = Field(
        default=(),
        description="Inputs that are stored as keyed hashes, beside the columns whose contract says that they are "
        "personal. The key is in `ML_ASSETS_HASH_KEY`.",
    )
