"""Batched answers are the unbatched ones; what cannot be batched, waits too long or is too much."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.model_server import ModelServer, Options, ServingError
from serving.model_server.batching import BatchingParameters, BatchScheduler, read_batching_parameters
from serving.model_server.errors import Code, invalid
from serving.model_server.loaded import LoadedModel


class Recorder:
    """Doubles its first input row by row, joins the second's strings; refuses 13."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, feeds: Sequence[Any]) -> list[Any]:
        numbers, words = feeds
        self.sizes.append(len(numbers))
        if (numbers == 13).any():
            raise invalid("13 brings bad luck")
        return [numbers * 2, np.array([b"".join(row) for row in words], object)]


def ask(scheduler: BatchScheduler, compute: Any, tasks: Sequence[tuple[Any, Any]]) -> list[Any]:
    """All tasks at once; each one's outputs or error."""

    def one(task: tuple[Any, Any]) -> Any:
        try:
            return scheduler.run("key", compute, task)
        except ServingError as error:
            return error.message

    with ThreadPoolExecutor(max(len(tasks), 1)) as threads:
        return list(threads.map(one, tasks))


task_lists = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 2), st.sampled_from([1, 2, 13])), min_size=1, max_size=12
)


@given(task_lists, st.integers(4, 16), st.booleans(), st.sampled_from([0, 2000]))
@settings(max_examples=40, deadline=None)
def test_every_caller_gets_the_answer_to_its_own_inputs(
    shapes: list[tuple[int, int, int]], largest: int, fill: bool, timeout: int
) -> None:
    allowed = tuple(sorted({2, 4, largest})) if fill else ()
    scheduler = BatchScheduler(
        BatchingParameters(largest, timeout, 100, num_batch_threads=2, allowed_batch_sizes=allowed)
    )
    compute = Recorder()
    tasks = [
        (np.full((rows, width), value + index * (value != 13), np.int64), np.full((rows, width), b"%d" % index, object))
        for index, (rows, width, value) in enumerate(shapes)
    ]
    answers = ask(scheduler, compute, tasks)
    scheduler.stop()
    for task, answer in zip(tasks, answers, strict=True):
        if (task[0] == 13).any():
            assert answer == "13 brings bad luck"
        else:
            assert [one.tolist() for one in answer] == [one.tolist() for one in Recorder()(task)]
    assert max(compute.sizes) <= largest


class Gate:
    """A computation that waits, so that others queue behind it."""

    def __init__(self) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def __call__(self, feeds: Sequence[Any]) -> list[Any]:
        self.sizes.append(len(feeds[0]))
        self.entered.set()
        assert self.open.wait(20)
        return [feeds[0] + 1]


def rows(count: int) -> tuple[Any]:
    return (np.zeros((count, 1), np.float32),)


def test_what_arrives_meanwhile_runs_together_and_a_full_queue_is_unavailable(eventually: Callable[..., None]) -> None:
    scheduler = BatchScheduler(BatchingParameters(4, 0, max_enqueued_batches=2, num_batch_threads=1))
    gate = Gate()
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(scheduler.run, "key", gate, rows(1))
        assert gate.entered.wait(20)
        waiting = [threads.submit(scheduler.run, "key", gate, rows(2)) for _ in range(4)]
        eventually(lambda: sum(b.size for q in scheduler._queues.values() for b in q.batches) == 8)
        with pytest.raises(ServingError, match="queue to which this task was submitted is full") as failure:
            scheduler.run("key", gate, rows(1))
        assert failure.value.code is Code.UNAVAILABLE
        gate.open.set()
        assert [len(one.result(20)[0]) for one in (first, *waiting)] == [1, 2, 2, 2, 2]
    scheduler.stop()
    assert gate.sizes == [1, 4, 4]


def test_what_nobody_waits_for_is_not_computed(eventually: Callable[..., None]) -> None:
    scheduler = BatchScheduler(BatchingParameters(4, 0, num_batch_threads=1))
    gate = Gate()
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(scheduler.run, "key", gate, rows(1))
        assert gate.entered.wait(20)
        deadline = time.monotonic() + 0.05
        late = [threads.submit(scheduler.run, "key", gate, rows(size), deadline) for size in (1, 2, 4)]
        last = threads.submit(scheduler.run, "key", gate, rows(1), time.monotonic() + 60)
        eventually(lambda: sum(b.size for q in scheduler._queues.values() for b in q.batches) == 8)
        eventually(lambda: time.monotonic() > deadline)
        gate.open.set()
        for one in late:
            with pytest.raises(ServingError, match="while it waited for its batch") as failure:
                one.result(20)
            assert failure.value.code is Code.DEADLINE_EXCEEDED
        assert [len(one.result(20)[0]) for one in (first, last)] == [1, 1]
    scheduler.stop()
    assert gate.sizes == [1, 1]


def test_an_idle_thread_does_not_keep_what_it_computed_last(eventually: Callable[..., None]) -> None:
    scheduler = BatchScheduler(BatchingParameters(4, num_batch_threads=1))
    compute = Recorder()
    scheduler.run("key", compute, (np.ones((1, 1), np.int64), np.full((1, 1), b"a", object)))
    gone = weakref.ref(compute)
    del compute
    eventually(lambda: gone() is None)
    scheduler.stop()


def test_a_scheduler_that_has_stopped_refuses() -> None:
    scheduler = BatchScheduler(BatchingParameters(4))
    scheduler.stop()
    with pytest.raises(ServingError) as failure:
        scheduler.run("key", Gate(), rows(1))
    assert failure.value.code is Code.UNAVAILABLE


def test_a_batch_waits_until_it_is_full() -> None:
    scheduler = BatchScheduler(BatchingParameters(6, 20_000_000, num_batch_threads=1))
    compute = Recorder()
    one = (np.ones((2, 1), np.int64), np.full((2, 1), b"a", object))
    assert len(ask(scheduler, compute, [one] * 3)) == 3
    assert compute.sizes == [6]
    scheduler.stop()


def test_a_task_larger_than_a_batch_is_refused() -> None:
    scheduler = BatchScheduler(BatchingParameters(4))
    with pytest.raises(ServingError, match="Task size 5 is larger than maximum input batch size 4") as failure:
        scheduler.run("key", Gate(), rows(5))
    assert failure.value.code is Code.INVALID_ARGUMENT
    scheduler.stop()


def test_batches_are_filled_up_to_an_allowed_size() -> None:
    scheduler = BatchScheduler(BatchingParameters(8, allowed_batch_sizes=(2, 8), num_batch_threads=1))
    compute = Recorder()
    for size, filled in ((1, 2), (2, 2), (3, 8), (8, 8)):
        (numbers, _) = scheduler.run("key", compute, (np.arange(size)[:, None], np.full((size, 1), b"a", object)))
        assert numbers.ravel().tolist() == [2 * value for value in range(size)]
        assert compute.sizes.pop() == filled
    scheduler.stop()


def test_padding_joins_inputs_of_different_lengths() -> None:
    scheduler = BatchScheduler(BatchingParameters(3, 20_000_000, pad_variable_length_inputs=True, num_batch_threads=1))
    compute = Recorder()
    tasks = [(np.ones((1, width), np.int64), np.full((1, width), b"a", object)) for width in (1, 3, 2)]
    answers = ask(scheduler, compute, tasks)
    assert compute.sizes == [3]
    assert [answer[0].tolist() for answer in answers] == [[[2, 0, 0]], [[2, 2, 2]], [[2, 2, 0]]]
    assert [answer[1].tolist() for answer in answers] == [[b"a"], [b"aaa"], [b"aa"]]
    scheduler.stop()


@pytest.mark.parametrize("feeds", [(np.float32(1),), (np.zeros((0, 2)),), (np.zeros(2), np.zeros(3)), ()])
def test_inputs_without_a_common_first_dimension_run_alone(feeds: Any) -> None:
    scheduler = BatchScheduler(BatchingParameters(2, 20_000_000))
    here: list[threading.Thread] = []
    scheduler.run("key", lambda given: here.append(threading.current_thread()) or [], tuple(map(np.asarray, feeds)))
    assert here == [threading.current_thread()]
    scheduler.stop()


def test_outputs_that_are_not_one_a_row_are_computed_apart(exported: Path) -> None:
    scheduler = BatchScheduler(BatchingParameters(6, 20_000_000, num_batch_threads=1))
    model = LoadedModel(exported / "several", batches=scheduler)
    signature = model.signature("total")
    assert signature is not None
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda x: model.run(signature, {"x": np.full(2, x, np.float32)})["sum"], (1, 2, 3)))
    assert answers == [2, 4, 6]
    model.close()
    scheduler.stop()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size must be positive"),
        ("allowed_batch_sizes: [4, 2]", "increasing order"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [2, 4]", "last entry was 4; expected 8"),
        ("nonsense: 1", "Invalid protobuf file"),
    ],
)
def test_parameters_that_cannot_be_used(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(ServingError, match=words):
        read_batching_parameters(tmp_path / "file")


def test_parameters_and_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("max_batch_size { value: 4 } batch_timeout_micros { value: 9 }")
    read = read_batching_parameters(tmp_path / "file")
    assert (read.max_batch_size, read.batch_timeout_micros, read.max_enqueued_batches) == (4, 9, 10)
    (tmp_path / "file").write_text("")
    assert read_batching_parameters(tmp_path / "file") == BatchingParameters()


def test_a_server_that_batches_answers_as_one_that_does_not(
    tmp_path: Path, publish: Callable[..., Path], connect: Any, direct: Callable[..., Any], same: Any
) -> None:
    publish(tmp_path / "m", 1, "several")
    (tmp_path / "file").write_text(
        "max_batch_size { value: 16 } batch_timeout_micros { value: 3000 } allowed_batch_sizes: [4, 16]"
    )
    options = Options(model_base_path=tmp_path / "m", enable_batching=True, batching_parameters_file=tmp_path / "file")
    random = np.random.default_rng(0)
    with ModelServer(options) as server, ThreadPoolExecutor(12) as threads:
        client = connect(server)

        def check(index: int) -> None:
            size = 1 + index % 5
            inputs = {
                "count": random.integers(-9, 9, size),
                "pair": random.normal(size=(size, 2)).astype(np.float32),
            }
            expected = direct("several", **inputs)
            if index % 2:
                answer = client.predict(inputs)
                assert all(same(answer[alias], expected[alias]) for alias in expected)
            else:
                answer = client.columns({alias: value.tolist() for alias, value in inputs.items()})
                assert same(answer["swapped"], expected["swapped"])
                assert answer["doubled"] == expected["doubled"].tolist()
            wrong = client.post({"inputs": {"count": [1], "pair": [[1, 2, 3]]}})
            assert wrong.status_code in (200, 400)  # the graph's own business

        list(threads.map(check, range(60)))
