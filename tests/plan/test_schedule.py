from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aifw.plan.schedule import Task, schedule


@st.composite
def task_lists(draw: st.DrawFn) -> tuple[list[Task], int, int]:
    budget, threads = draw(st.integers(0, 20)), draw(st.integers(1, 4))
    tasks: list[Task] = []
    for index in range(draw(st.integers(0, 10))):
        earlier = [task.address for task in tasks]
        after = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
        memory = draw(st.integers(0, budget))
        seconds = draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0]))
        tasks.append(Task(f"t{index}", tuple(after), memory, seconds, draw(st.sampled_from([1, threads]))))
    return tasks, budget, threads


@settings(deadline=None)
@given(task_lists())
def test_limits_hold_at_every_instant_and_nothing_starts_too_early(case: tuple[list[Task], int, int]) -> None:
    tasks, budget, threads = case
    found = schedule(tasks, budget, threads)
    assert found.start.keys() == {task.address for task in tasks}
    ends = {task.address: found.start[task.address] + task.seconds for task in tasks}
    assert found.end == max(ends.values(), default=0)
    for task in tasks:
        assert all(ends[each] <= found.start[task.address] for each in task.after)
    for instant in found.start.values():
        running = [task for task in tasks if found.start[task.address] <= instant < ends[task.address]]
        assert len(running) <= 1 or sum(task.memory for task in running) <= budget
        assert len(running) <= 1 or sum(task.threads for task in running) <= threads
    assert found.memory <= budget
    assert found.memory_at == "" or any(
        task.address == found.memory_at and task.memory <= found.memory for task in tasks
    )


@settings(deadline=None)
@given(task_lists())
def test_no_job_waits_for_nothing(case: tuple[list[Task], int, int]) -> None:
    tasks, budget, threads = case
    found = schedule(tasks, budget, threads)
    ends = {task.address: found.start[task.address] + task.seconds for task in tasks}
    # Something starts only at 0 or when something else ends: the machine is never idle in between.
    for task in tasks:
        assert found.start[task.address] == 0 or found.start[task.address] in ends.values()
    assert found.end <= sum(task.seconds for task in tasks)


def test_independent_jobs_run_side_by_side_while_there_is_room() -> None:
    tasks = [Task(name, (), 4, 10, 1) for name in "abc"]
    found = schedule(tasks, budget=8, threads=4)
    assert (found.start, found.end, found.memory) == ({"a": 0, "b": 0, "c": 10}, 20, 8)
    assert schedule(tasks, budget=8, threads=1).end == 30


def test_a_job_that_takes_every_thread_runs_alone() -> None:
    found = schedule([Task("a", (), 1, 5, 1), Task("b", (), 1, 5, 4), Task("c", (), 1, 5, 1)], budget=8, threads=4)
    assert (found.start["a"], found.start["c"], found.start["b"]) == (0, 0, 5)


def test_shorter_jobs_can_take_longer_together() -> None:
    """Graham's anomaly, which is why a plan puts its three estimates in order."""

    def tasks(*seconds: int) -> list[Task]:
        after = {2: ("t1",), 3: ("t1",)}
        return [Task(f"t{index}", after.get(index, ()), 0, each, 1) for index, each in enumerate(seconds)]

    assert schedule(tasks(1, 2, 1, 2, 5), 1, 2).end == 6
    assert schedule(tasks(1, 1, 1, 2, 5), 1, 2).end == 7
