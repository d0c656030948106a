"""Errors of storage: each message names the object, what was expected, what came, and the mend.

Errors of data and contracts stay out; see `ml_assets.contracts.errors`.
"""


class LakeError(RuntimeError):
    """The lake cannot be read or written as asked."""


class UnreachableLakeError(LakeError):
    """The lake's server does not answer, or cannot do what it is asked for now; it may later."""


class MissingArtifactError(LakeError):
    """An artifact is asked for that nobody has made yet."""


class CorruptArtifactError(LakeError):
    """An artifact's files do not agree with its manifest, so it is not used."""


class PromotionConflictError(LakeError):
    """Somebody else wrote the next entry of the promotion log first."""


class PublicationConflictError(LakeError):
    """Somebody else published a partition since it was read; what was made from it must be made again."""


class SourceError(ValueError):
    """A source file cannot be read as its contract says."""


class WarehouseError(RuntimeError):
    """The warehouse could not build its tables."""
