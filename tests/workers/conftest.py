"""The pretended cluster of the pods' tests, for the workers that are pods."""

from tests.kubernetes.conftest import empty_home, shop

__all__ = ["empty_home", "shop"]
