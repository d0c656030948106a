"""Fixtures of the prediction service: the shop's lake and its champion, loaded to answer requests."""

import pytest

from ml_assets.lake.store import Lake
from ml_assets.serving.app import Application
from ml_assets.serving.registry import Registry
from ml_assets.serving.served_model import ServedModel, load_served_model
from tests.notebook.conftest import empty_lake, shop_lake
from tests.stages.conftest import _closed_contexts, plan, trained

__all__ = ["_closed_contexts", "empty_lake", "plan", "shop_lake", "trained"]


@pytest.fixture(scope="session")
def served(shop_lake: Lake) -> ServedModel:
    return load_served_model(shop_lake, "returns")


@pytest.fixture
def application(shop_lake: Lake) -> Application:
    return Application(Registry.open(shop_lake, ["returns"]), release="1.2.3")
