"""What tests on a cluster need from outside."""

import os
from typing import Final

NEEDED: Final = ("KUBECONFIG", "TEST_CLUSTER_SERVER", "TEST_CLUSTER_LAKE", "TEST_CLUSTER_NAMESPACE")

OUTAGE: Final = "TEST_CLUSTER_OUTAGE"
"""A command that takes the cluster's API away for a while, if there is one."""


def given() -> bool:
    """Whether all of it is set."""
    return all(os.environ.get(name) for name in NEEDED)
