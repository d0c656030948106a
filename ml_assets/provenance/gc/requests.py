"""Retention of the request log: the files of days that are older than their model's declared number of days.

The asset `requests` has all rows of the files that it was built from, so it stays complete without them. Files that it
was not built from are kept.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from ml_assets.contracts.periods import Calendar, is_key
from ml_assets.declaration.reading import read_all
from ml_assets.lake.request_files import REQUESTS, names_of_files
from ml_assets.lake.store import Lake
from ml_assets.project import PROJECT, ProjectError, find_project


@dataclass(frozen=True)
class Retention:
    """How long the files of a model's request log are kept.

    Attributes:
        days: the number of days after the end of their period.
        calendar: the periods of the model.
    """

    days: int
    calendar: Calendar

    def is_over(self, day: date, now: datetime) -> bool:
        """Return whether a day (UTC) is old, with every period that contains something of it."""
        last = self.calendar.last_day(self.calendar.last_key(day + timedelta(days=1)))
        return last + timedelta(days=self.days + 1) < now.date()


def declared_retentions() -> Mapping[str, Retention]:
    """Return the retention of each model of the current project that declares one; none without a project.

    Raises:
        DeclarationError: a declaration has an error.
        ProjectError: the environment names a folder that is not a project.
    """
    try:
        project = find_project()
    except ProjectError:
        if PROJECT in os.environ:
            raise
        return {}
    return {
        model.name: Retention(model.serving.keep_days, model.days.calendar)
        for model in read_all(project.declarations).models
        if model.serving.keep_days is not None
    }


def old_requests(lake: Lake, retentions: Mapping[str, Retention], now: datetime) -> dict[str, int]:
    """Return the files that are older than declared, by path relative to the lake's root, with their bytes.

    A file that the asset `requests` has not read is not listed, because its rows are nowhere else.
    """
    folders = {
        f"{REQUESTS}/{model}/{day}": model
        for model, retention in retentions.items()
        for day in lake.names(lake.path(REQUESTS, model))
        if is_key(day) and retention.is_over(date.fromisoformat(day), now)
    }
    read = {model: _files_read(lake, model) for model in {*folders.values()}}
    found = lake.list_each([lake.path(folder) for folder in folders])
    return {
        f"{folder}/{name}": stat.bytes
        for folder, model in folders.items()
        for name, stat in found[lake.path(folder)].items()
        if f"{folder.rpartition('/')[2]}/{name}" in read[model]
    }  # fmt: skip


def _files_read(lake: Lake, model: str) -> set[str]:
    """Return the files of the log whose rows the asset `requests` has."""
    manifests = lake.manifest_of_each([*lake.newest(f"{model}/requests").values()]).values()
    return {name for manifest in manifests for name in names_of_files(manifest)}
