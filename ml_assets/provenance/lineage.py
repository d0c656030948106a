"""Lineage, followed from manifest to manifest; it needs the lake and nothing else.

How manifests are found and read stays out; see `resources.manifests`.
"""

from resources.errors import MissingArtifactError
from resources.manifest import ArtifactRef
from resources.manifests import Manifests


def code_behind(lake: Manifests, ref: ArtifactRef) -> dict[str, str | None]:
    """Return the code version of an artifact and of all that it was made from, by asset; each asset is asked once.

    What has been removed since has none that can be told.
    """
    found: dict[str, str | None] = {}
    waiting = [ref]
    while waiting:
        one = waiting.pop()
        if one.asset in found:
            continue
        try:
            manifest = lake.manifest(one)
        except MissingArtifactError:
            found[one.asset] = None
        else:
            found[one.asset] = manifest.code_version
            waiting.extend(manifest.inputs)
    return found
