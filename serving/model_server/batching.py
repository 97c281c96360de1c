"""Requests for the same computation run together: joined along the batch dimension, and the answers split again."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np

from serving.model_server.errors import Code, ServingError, invalid
from serving.model_server.tensors import Array

Compute: TypeAlias = Callable[[Sequence[Array]], Sequence[Array]]


@dataclass(frozen=True)
class BatchingParameters:
    """TensorFlow Serving's parameters, with its defaults. Sizes are in rows."""

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0  # how long a batch waits to become full
    max_enqueued_batches: int = 10  # for one computation
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()  # a batch is filled up to the next of these
    pad_variable_length_inputs: bool = False

    def filled(self, size: int) -> int:
        """The rows that a batch of `size` rows runs with."""
        return next((allowed for allowed in self.allowed_batch_sizes if allowed >= size), size)


def read_batching_parameters(path: Path) -> BatchingParameters:
    """Read a text-format BatchingParameters.

    Raises:
        ServingError: INVALID_ARGUMENT, the file is no such message or its numbers cannot be used.
    """
    from serving.model_server.text_config import read_text_config

    message = read_text_config(path, "BatchingParameters")
    given: dict[str, int] = {}
    for name in ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"):
        if message.HasField(name):
            given[name] = getattr(message, name).value
            if given[name] < (0 if name == "batch_timeout_micros" else 1):
                raise invalid(f"{path}: {name} must be positive, but is {given[name]}.")
    sizes = tuple(message.allowed_batch_sizes)
    read = BatchingParameters(
        allowed_batch_sizes=sizes, pad_variable_length_inputs=message.pad_variable_length_inputs, **given
    )
    if sizes and (sizes[0] < 1 or any(late <= early for early, late in pairwise(sizes))):
        raise invalid(f"{path}: allowed_batch_sizes must be positive and in increasing order.")
    if sizes and sizes[-1] != read.max_batch_size:
        raise invalid(
            f"{path}: Last entry in allowed_batch_sizes must match max_batch_size; "
            f"last entry was {sizes[-1]}; expected {read.max_batch_size}"
        )
    return read


@dataclass
class _Task:
    feeds: Sequence[Array]
    size: int
    deadline: float = float("inf")  # of time.monotonic
    answer: Future[Sequence[Array]] = field(default_factory=Future)


@dataclass
class _Batch:
    closes_at: float
    tasks: list[_Task] = field(default_factory=list)
    size: int = 0


@dataclass
class _Queue:
    compute: Compute
    batches: deque[_Batch] = field(default_factory=deque)  # the last one is still filled


class BatchScheduler:
    """Gathers tasks into batches, and runs these in threads of its own, which all models share."""

    def __init__(self, parameters: BatchingParameters) -> None:
        self.parameters = parameters
        self._queues: dict[Hashable, _Queue] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True)
            for number in range(parameters.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(
        self, key: Hashable, compute: Compute, feeds: Sequence[Array], deadline: float = float("inf")
    ) -> Sequence[Array]:
        """Compute the outputs for these inputs, perhaps together with those of other callers.

        Inputs without a common first dimension run alone. So does a batch whose outputs cannot be split, or that
        fails: every caller gets the answer or the error of its own inputs.

        Args:
            key: What may run together: the same key means the same `compute` and the same kind of inputs.
            deadline: Of `time.monotonic()`. Inputs that still wait then are not computed.

        Raises:
            ServingError: INVALID_ARGUMENT, more rows than a batch holds; UNAVAILABLE, too much waits already;
                DEADLINE_EXCEEDED; or as `compute` does.
        """
        sizes = {len(feed) if feed.ndim else -1 for feed in feeds}
        if len(sizes) != 1 or min(sizes) < 1:
            return compute(feeds)
        task = _Task(feeds, sizes.pop(), deadline)
        if task.size > self.parameters.max_batch_size:
            raise invalid(
                f"Task size {task.size} is larger than maximum input batch size {self.parameters.max_batch_size}"
            )
        rest = tuple(feed.ndim if self.parameters.pad_variable_length_inputs else feed.shape[1:] for feed in feeds)
        self._add((key, rest), compute, task)
        return task.answer.result()

    def stop(self) -> None:
        """Run what waits, and end the threads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _add(self, key: Hashable, compute: Compute, task: _Task) -> None:
        limit = self.parameters
        with self._changed:
            if self._stopping:
                raise ServingError(Code.UNAVAILABLE, "The server is stopping.")
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = _Queue(compute)
            batches = queue.batches
            if not batches or batches[-1].size + task.size > limit.max_batch_size:
                if len(batches) >= limit.max_enqueued_batches:
                    raise ServingError(
                        Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"
                    )
                batches.append(_Batch(time.monotonic() + limit.batch_timeout_micros / 1e6))
                self._changed.notify_all()  # the batch before is closed, and this one's time has begun
            batches[-1].tasks.append(task)
            batches[-1].size += task.size
            if batches[-1].size == limit.max_batch_size:
                self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                taken = self._take()
                while taken is None:
                    if self._stopping and not self._queues:
                        return
                    next_close = min((queue.batches[0].closes_at for queue in self._queues.values()), default=None)
                    self._changed.wait(None if next_close is None else max(next_close - time.monotonic(), 0))
                    taken = self._take()
            self._run_batch(*taken)
            del taken  # while this thread waits, a model that is unloaded goes

    def _take(self) -> tuple[Compute, _Batch] | None:
        """A batch that is full, or whose time is over; the one that has waited longest."""
        now = time.monotonic()
        ready: Hashable = None
        earliest = float("inf")
        for key, queue in self._queues.items():
            first = queue.batches[0]
            due = self._stopping or len(queue.batches) > 1 or first.size == self.parameters.max_batch_size
            if (due or first.closes_at <= now) and first.closes_at < earliest:
                ready, earliest = key, first.closes_at
        if ready is None:
            return None
        queue = self._queues[ready]
        batch = queue.batches.popleft()
        if not queue.batches:
            del self._queues[ready]
        return queue.compute, batch

    def _run_batch(self, compute: Compute, batch: _Batch) -> None:
        now, tasks = time.monotonic(), []
        for task in batch.tasks:
            if task.deadline > now:
                tasks.append(task)
            else:
                late = "The request's deadline passed while it waited for its batch."
                task.answer.set_exception(ServingError(Code.DEADLINE_EXCEEDED, late))
        size = sum(task.size for task in tasks)
        filled = self.parameters.filled(size)
        if len(tasks) > 1 or filled > size > 0:
            try:
                answers = _together(compute, tasks, filled)
            except Exception:
                answers = None  # one bad request must not spoil its neighbours' answers
            if answers is not None:
                for task, answer in zip(tasks, answers, strict=True):
                    task.answer.set_result(answer)
                return
        for task in tasks:
            try:
                task.answer.set_result(compute(task.feeds))
            except BaseException as error:
                task.answer.set_exception(error)


def _together(compute: Compute, tasks: Sequence[_Task], filled: int) -> list[Sequence[Array]] | None:
    """The tasks' answers, or None if the outputs are not one row for each row of the inputs."""
    feeds = [_join([task.feeds[index] for task in tasks], filled) for index in range(len(tasks[0].feeds))]
    outputs = compute(feeds)
    if any(output.ndim == 0 or len(output) != filled for output in outputs):
        return None
    answers: list[Sequence[Array]] = []
    start = 0
    for task in tasks:
        answers.append([output[start : start + task.size] for output in outputs])
        start += task.size
    return answers


def _join(arrays: Sequence[Array], filled: int) -> Array:
    """One array of `filled` rows: all of `arrays`, padded to their largest shape, then the last one's first row."""
    if any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
        largest = np.max([array.shape[1:] for array in arrays], axis=0)
        arrays = [_pad(array, largest.tolist()) for array in arrays]
    missing = filled - sum(map(len, arrays))
    return np.concatenate([*arrays, *[arrays[-1][:1]] * missing])


def _pad(array: Array, shape: Sequence[int]) -> Array:
    padded = np.full((len(array), *shape), b"" if array.dtype == object else 0, dtype=array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded
