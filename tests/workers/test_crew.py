"""How ended workers are handled, in a test double where each ends as chosen."""

import pytest

from ml_assets.kubernetes.diagnosis import Diagnosis, Kind
from ml_assets.kubernetes.policy import PodPolicy
from ml_assets.workers.crew import Crew, WorkersError, WorkerState

MORE = PodPolicy(memory="1Gi", memory_ceiling="3Gi", retries=1)


class Pretended:
    def __init__(self) -> None:
        self.started: list[tuple[int, int, str | None]] = []
        self.standing: dict[int, WorkerState] = {}
        self.closed = 0

    def start(self, worker: int, attempt: int, memory: str | None) -> None:
        self.started.append((worker, attempt, memory))
        self.standing[worker] = "running"

    def look(self, worker: int) -> WorkerState:
        return self.standing[worker]

    def close(self) -> None:
        self.closed += 1

    def ends(self, worker: int, kind: Kind) -> None:
        self.standing[worker] = Diagnosis(kind, f"It ended as {kind}.")


def test_all_are_started_and_ended() -> None:
    place = Pretended()

    with Crew(place, 3, policy=MORE, log=pytest.fail) as crew:
        crew.check()

    assert [(0, 0, None), (1, 0, None), (2, 0, None)] == place.started
    assert 1 == place.closed


def test_a_lost_worker_is_replaced_as_often_as_declared_and_then_the_others_continue() -> None:
    place, lines = Pretended(), list[str]()

    with Crew(place, 2, policy=MORE, log=lines.append) as crew:
        for _ in range(2):
            place.ends(1, "PodLost")
            crew.check()
        crew.check()

    assert [(0, 0, None), (1, 0, None), (1, 1, None)] == place.started
    assert "worker 1: It ended as PodLost. It is retried unchanged, retry 1 of 1." == lines[0]
    assert "Its 1 retries are used up" in lines[1]
    assert "1 workers continue" in lines[1]


def test_one_that_ran_out_of_memory_gets_more_up_to_the_ceiling() -> None:
    place, lines = Pretended(), list[str]()

    with Crew(place, 1, policy=MORE, log=lines.append) as crew:
        for _ in range(2):
            place.ends(0, "PodOutOfMemory")
            crew.check()
        place.ends(0, "PodOutOfMemory")
        with pytest.raises(WorkersError, match="That is the ceiling"):
            crew.check()

    assert [None, "2Gi", "3Gi"] == [memory for *_, memory in place.started]


def test_a_fault_of_the_code_ends_the_step_at_once() -> None:
    place = Pretended()

    with Crew(place, 2, policy=MORE, log=pytest.fail) as crew:
        place.ends(1, "PodFailed")
        with pytest.raises(WorkersError, match="worker 1: It ended as PodFailed"):
            crew.check()

    assert 1 == place.closed


def test_one_that_ends_before_the_work_is_done_counts_as_lost() -> None:
    place, lines = Pretended(), list[str]()

    with Crew(place, 1, policy=MORE, log=lines.append) as crew:
        place.standing[0] = "done"
        crew.check()

    assert ["worker 0: It ended before the work was finished. It is retried unchanged, retry 1 of 1."] == lines


def test_started_workers_are_stopped_if_another_cannot_start() -> None:
    place = Pretended()
    place.start = lambda *_: (_ for _ in ()).throw(OSError("no more processes"))  # type: ignore[method-assign]

    with pytest.raises(OSError, match="no more processes"), Crew(place, 2, policy=MORE, log=pytest.fail):
        pass

    assert 1 == place.closed
