"""Errors of storage. Each message names the object, what was expected, what was found, and how to fix it.

Not here: errors of data and contracts (see `ml_assets.contracts.errors`).
"""


class LakeError(RuntimeError):
    """The lake cannot be read or written."""


class UnreachableLakeError(LakeError):
    """The lake's server does not respond, or cannot handle the request now. A retry may succeed."""


class MissingArtifactError(LakeError):
    """The requested artifact does not exist."""


class CorruptArtifactError(LakeError):
    """An artifact's files do not match its manifest, so it is not used."""


class FormatVersionError(LakeError):
    """A record was written by a newer release, in a format that this one cannot read."""


class PromotionConflictError(LakeError):
    """Another process wrote the next entry of the promotion log first."""


class PublicationConflictError(LakeError):
    """Another process published a partition after it was read. The result based on it must be computed again."""


class SourceError(ValueError):
    """A source file cannot be read according to its contract."""


class WarehouseError(RuntimeError):
    """The warehouse could not build its tables."""
