"""Random events in a model's loop: no retraining is requested twice or concurrently, and none is lost."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ml_assets.adapters.dagster import RUN_KEY_TAG
from ml_assets.automation.retraining import AT_DRIFT, FORGOTTEN, TAKEN_OVER
from ml_assets.contracts.decisions import Retraining
from ml_assets.models.monitoring import read_monitoring
from tests.automation.looped import FIRST, World, declared, world


class Life:
    """Days, labels, runs, promotions, rollbacks, daemons that die and cursors that are lost, in any order."""

    def __init__(self, it: World) -> None:
        self.it = it
        self.rules = it.model.retraining
        self.first = it.champion
        self.versions = 0
        self.late: list[tuple[list[dg.RunRequest], str]] = []
        it.live()

    def day(self, *, is_over: bool, auc: float = 0.8) -> None:
        self.it.live(is_over=is_over, auc=auc)

    def labels(self) -> None:
        self.it.measure(self.it.day - timedelta(days=1), auc=0.5)

    def sensor(self, name: Any, *, is_lost: bool = False, dies: bool = False, is_slow: bool = False) -> None:
        self._asked(lambda: self.it.look(name, is_lost=is_lost, dies=dies), name, dies=dies, is_slow=is_slow)

    def floor(self, *, dies: bool = False) -> None:
        self._asked(self.it.look_at_the_floor, "retraining_floor", dies=dies)

    def _asked(self, look: Callable[[], list[dg.RunRequest]], by: str, *, dies: bool, is_slow: bool = False) -> None:
        """Evaluate one sensor, and compare its requests with earlier ones."""
        older, busy = self.it.records(), self.it.under_way()
        requests = look()
        new = [one for one in self.it.records() if one not in older]
        assert len(new) <= len(requests) <= 1
        assert not (requests and busy), "one is under way"
        for one in new:
            actions = [entry.action for entry in self.it.log().entries()]
            since = max(n for n, action in enumerate(actions) if action != "reject")
            refused = len(actions) - 1 - since + (actions[since] == "rollback")
            last = max([FIRST - timedelta(days=1), *(it.as_of for it in older)])
            assert (one.as_of - last).days >= self.rules.cool_down_days * 2 ** min(refused, 3)
            assert self.it.day - timedelta(days=1) == one.as_of
        if is_slow:
            self.late.append((requests, by))
        elif not dies:
            self.it.launch(requests, by)

    def launch_what_is_late(self) -> None:
        while self.late:
            self.it.launch(*self.late.pop())

    def run_ends(self, how: Any) -> None:
        if self.it.under_way():
            self.it.end(well=how != "failure")
            if how != "failure":
                self.versions += 1
                self.it.serve(self.it.train(self.it.records()[-1].as_of, rounds=self.versions), how)

    def rollback(self) -> None:
        if self.it.champion != self.first:
            self.it.serve(self.first, "rollback")

    def time(self, minutes: int) -> None:
        self.launch_what_is_late()
        self.it.now += timedelta(minutes=minutes)

    def check(self) -> None:
        """One run a record, a record a day and number, never two runs at a time."""
        runs = [run.tags[RUN_KEY_TAG] for run in self.it.instance.get_runs()]
        assert len({*runs}) == len(runs)
        assert {*runs} <= {key_of(it) for it in self.it.records()}
        assert len(self.it.under_way()) <= 1
        assert all(it.number <= self.rules.max_per_day for it in self.it.records())

    def check_the_end(self) -> None:
        """In the end each request has a run or is reported as postponed; no record is left without a run."""
        self.launch_what_is_late()
        for name in ("drift", "performance", "drift", "performance"):
            self.it.end()
            self.it.now += TAKEN_OVER * 2
            self.it.launch(self.it.look(name), name)
        self.it.end()
        recent = [it for it in self.it.records() if self.it.now - it.requested_at < FORGOTTEN]
        assert {key_of(it) for it in recent} <= {run.tags[RUN_KEY_TAG] for run in self.it.instance.get_runs()}
        loop = read_monitoring(self.it.lake, self.it.model)
        assert loop is not None
        if any(it.is_over for it in AT_DRIFT.find(loop, self.it.model)) and not self.it.look(is_lost=True):
            assert "It is postponed" in self.it.reason


def key_of(record: Retraining) -> str:
    return f"retraining/{record.model}/{record.as_of}/{record.number}"


LOOKS: tuple[Callable[[Life], None], ...] = (
    lambda life: life.sensor("drift"),
    lambda life: life.sensor("drift", is_lost=True),
    lambda life: life.sensor("drift", dies=True),
    lambda life: life.sensor("drift", is_slow=True),
    lambda life: life.sensor("performance"),
    lambda life: life.sensor("performance", is_slow=True),
    lambda life: life.sensor("performance", is_lost=True),
    lambda life: life.sensor("performance", dies=True),
    lambda life: life.floor(),
    lambda life: life.floor(dies=True),
)
EVENTS: tuple[Callable[[Life], None], ...] = (
    lambda life: life.day(is_over=True),
    lambda life: life.day(is_over=True, auc=0.5),
    lambda life: life.day(is_over=False),
    lambda life: life.labels(),
    lambda life: life.run_ends("promote"),
    lambda life: life.run_ends("reject"),
    lambda life: life.run_ends("failure"),
    lambda life: life.launch_what_is_late(),
    lambda life: life.rollback(),
    lambda life: life.time(1),
    lambda life: life.time(11),
)


@settings(max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    cool_down=st.sampled_from([0, 0, 2]),
    max_per_day=st.sampled_from([1, 2, 2]),
    floor=st.sampled_from([None, 1]),
    happens=st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from(LOOKS)), min_size=14, max_size=14),
)
def test_under_faults_no_retraining_is_requested_twice_concurrently_or_lost(
    cool_down: int, max_per_day: int, floor: int | None,
    happens: list[tuple[Callable[[Life], None], Callable[[Life], None]]],
) -> None:  # fmt: skip
    given = {"cool_down_days": cool_down, "max_per_day": max_per_day, "floor_days": floor, "drift_days": 1,
             "performance_limit": 1.0}  # fmt: skip
    with TemporaryDirectory() as root, world(Path(root) / "lake", declared(given)) as it:
        life = Life(it)
        for event, look in happens:
            event(life)
            look(life)
            life.check()
        life.check_the_end()
