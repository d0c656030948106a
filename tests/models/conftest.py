"""Fixtures over the shop's model, shared with the tests of stages."""

from tests.stages.conftest import _closed_contexts, lake, plan, trained, with_model  # noqa: F401 - fixtures
