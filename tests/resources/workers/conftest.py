"""The pretended cluster of the pods' tests, for the workers that are pods."""

from tests.resources.pods.conftest import empty_home, shop

__all__ = ["empty_home", "shop"]
