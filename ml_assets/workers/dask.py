"""Provides the Dask cluster for distributed training: the one named by `ML_ASSETS_DASK`, or else a local one.

Dask is an extra: LightGBM's integration needs pandas and scikit-learn, which make every import of LightGBM slow. Dask's
processes trust each other and exchange pickles; none is stored. A client that reaches a scheduler can run code on it:
restrict access to the cluster's network, or configure TLS in Dask.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ml_assets.extras import ExtraMissingError, missing_packages
from ml_assets.settings import SettingsError

DASK: Final = "ML_ASSETS_DASK"
_WAIT_SECONDS: Final = 600
"""How long to wait for the workers to join."""


@contextmanager
def dask_client(workers: int, *, threads: int) -> Iterator[Any]:
    """Yield a client of a cluster with this many workers.

    Raises:
        ExtraMissingError: Dask, or a package that LightGBM's integration needs, is not installed.
        SettingsError: the cluster cannot be reached, or has too few workers.
    """
    if missing := missing_packages("dask"):
        raise ExtraMissingError(
            f"training over {workers} workers needs the packages {', '.join(missing)}, which are not installed; "
            "training: {workers: 1} needs none of them.",
            "dask",
        )
    import distributed

    address = os.environ.get(DASK, "").strip()
    if not address:
        with (
            distributed.LocalCluster(
                n_workers=workers, threads_per_worker=threads, dashboard_address=None, host="127.0.0.1"
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = distributed.Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"the Dask scheduler in {DASK} cannot be reached: {error}. Set it to tcp://host:port of a running "
            "scheduler, or remove it to train with processes of this machine."
        ) from error
    with client:
        try:
            client.wait_for_workers(workers, timeout=_WAIT_SECONDS)
        except TimeoutError as error:
            raise SettingsError(
                f"the Dask cluster in {DASK} has fewer than {workers} workers after {_WAIT_SECONDS} s. Start "
                "more, or declare fewer in the model's training."
            ) from error
        yield client
