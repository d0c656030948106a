"""The Dask cluster that a model is trained over: the one that `ML_ASSETS_DASK` names, else one of this machine.

Dask is an extra, since LightGBM's integration needs pandas and scikit-learn, which make every import of LightGBM slow.
Dask's processes trust each other: what they send is pickled. Nothing of that is kept, and whoever reaches a scheduler
may run code on it: keep it inside the cluster's network, or give it TLS by Dask's own settings.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ml_assets.extras import ExtraMissingError, missing_packages
from ml_assets.settings import SettingsError

DASK: Final = "ML_ASSETS_DASK"
_WAIT_SECONDS: Final = 600
"""How long workers may take to join."""


@contextmanager
def dask_client(workers: int, *, threads: int) -> Iterator[Any]:
    """Give a client of so many workers.

    Raises:
        ExtraMissingError: Dask, or what LightGBM's integration needs besides, is not installed.
        SettingsError: the cluster cannot be reached, or has fewer workers.
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
            f"the Dask scheduler that {DASK} names cannot be reached: {error}. Set it to tcp://host:port of one that "
            "runs, or leave it out to train over processes of this machine."
        ) from error
    with client:
        try:
            client.wait_for_workers(workers, timeout=_WAIT_SECONDS)
        except TimeoutError as error:
            raise SettingsError(
                f"the Dask cluster that {DASK} names has fewer than {workers} workers after {_WAIT_SECONDS} s. Start "
                "more, or declare fewer in the model's training."
            ) from error
        yield client
