"""The loop between the oracle that proposes trials and the processes that run them."""

from __future__ import annotations

import selectors
import time
from typing import Any

import numpy as np

from pipelines.errors import BadInput
from pipelines.metrics import bootstrap
from pipelines.progress import say
from pipelines.recipe import Recipe
from pipelines.tuning.journal import Journal, Trial
from pipelines.tuning.oracle import Oracle, Proposal
from pipelines.tuning.space import Space, short
from pipelines.tuning.trial import Task
from pipelines.tuning.worker import Worker
from pipelines.unfinished import SEARCH, Unfinished

# The metric of each slate or user under the recipe as it is.
DEFAULT = "default.npy"
# A trial that does not end by itself when time is over, in the middle of a long epoch, is ended so much later.
_GRACE_SECONDS = 30.0


class Search:
    """A search under way.

    Args:
        until: The moment, in seconds since 1970, after which no trial is begun; or None.
        trials: At most so many.
    """

    def __init__(
        self,
        work: Unfinished,
        journal: Journal,
        oracle: Oracle,
        space: Space,
        crew: list[Worker],
        until: float | None,
        trials: int,
    ) -> None:
        self._work, self._journal, self._oracle, self._space = work, journal, oracle, space
        self._crew, self._until, self._trials = crew, until, trials
        self._by_worker: dict[int, Proposal] = {}

    def run(self) -> bool:
        """Until the oracle has no more to ask, which is True, or time is over."""
        if not self._try_default():
            return False
        ready = self._oracle.replay(self._journal.events)
        asking = True
        while True:
            for place, worker in enumerate(self._crew):
                while worker.task is None and not self._is_over() and (ready or asking):
                    answer = ready.pop(0) if ready else self._oracle.ask()
                    self._save()
                    if not isinstance(answer, Proposal):
                        asking = asking and answer != "stop"
                        break
                    self._begin(place, answer)
            if not any(worker.task for worker in self._crew):
                all_asked = not asking or len(self._journal.trials) >= self._trials
                return all_asked and not self._journal.count("running")
            for place in self._wait():
                self._end(place)

    def _is_over(self) -> bool:
        return self._until is not None and time.time() > self._until

    def _save(self) -> None:
        self._journal.events = self._oracle.events
        self._journal.write(self._work.folder / SEARCH)

    def _try_default(self) -> bool:
        """Run the recipe as it is, unless that has been done; False if time was over."""
        if self._journal.default is None:
            say("the recipe as it is:")
            self._crew[0].start(self._task("default", self._space.recipe))
            answer: dict[str, Any] = self._crew[0].answer() if self._wait() else {"stopped": ""}
            if "stopped" in answer:
                return False
            if "failed" in answer:
                self._work.forget()
                raise BadInput(f"the recipe cannot be trained as it is: {answer['failed']}")
            measured = answer["measured"]
            self._journal.metric = measured.pop("metric")
            self._journal.default = Trial(number=-1, values={}, status="completed", **measured)
            self._journal.write(self._work.folder / SEARCH)
        return True

    def _task(self, name: str, recipe: Recipe, proposal: Proposal | None = None) -> Task:
        before = proposal.continues if proposal else None
        return Task(
            name,
            recipe.model_dump(mode="json"),
            proposal.epochs if proposal else None,
            None if before is None else _name(before),
            self._until,
        )

    def _begin(self, place: int, proposal: Proposal) -> None:
        """Give a trial to a worker, unless its outcome is known already."""
        trials = self._journal.trials
        if proposal.number == len(trials):
            trials.append(
                Trial(
                    number=proposal.number,
                    values=self._space.chosen(proposal.values),
                    epochs=proposal.epochs,
                    continues=proposal.continues,
                )
            )
        trial = trials[proposal.number]
        try:
            recipe = self._space.recipe_of(proposal.values)
        except BadInput as error:
            self._failed(proposal, str(error))
            return
        same = self._same(trial, recipe)
        if same is not None:
            copied = ("score", "lead", "metrics", "by_epoch", "best_epoch")
            trials[trial.number] = trial.model_copy(
                update={name: getattr(same, name) for name in copied}
                | {"status": "completed", "same_as": same.number, "lead": same.lead or (0.0, 0.0, 0.0)}
            )
            self._told(trials[trial.number])
            return
        say(f"trial {trial.number + 1} of {self._trials}: {_said(trial.values)}")
        self._by_worker[place] = proposal
        self._crew[place].start(self._task(_name(proposal.number), recipe, proposal))

    def _same(self, trial: Trial, recipe: Recipe) -> Trial | None:
        """A completed trial of the same recipe and length: the seed is the same, so it would end alike."""
        if trial.epochs is not None and trial.epochs != recipe.training.epochs:
            return None
        if trial.continues is None and recipe == self._space.recipe:
            return self._journal.baseline
        among = (each for each in self._journal.completed if each.epochs == trial.epochs)
        return next((each for each in among if each.values == trial.values), None)

    def _wait(self) -> list[int]:
        """The places of workers that have an answer; those that ignore the end of the time are ended."""
        with selectors.DefaultSelector() as selector:
            for place, worker in enumerate(self._crew):
                if worker.task is not None:
                    selector.register(worker.output, selectors.EVENT_READ, place)
            left = None if self._until is None else max(0.0, self._until + _GRACE_SECONDS - time.time())
            found = [key.data for key, _ in selector.select(left)]
        if not found:
            for worker in self._crew:
                worker.kill()
        return found

    def _end(self, place: int) -> None:
        proposal, answer = self._by_worker.pop(place), self._crew[place].answer()
        if "stopped" in answer:
            return
        if "failed" in answer:
            self._failed(proposal, answer["failed"])
            return
        trial, measured = self._journal.trials[proposal.number], answer["measured"]
        measured.pop("metric")
        update = {**measured, "status": "completed", "lead": self._lead(proposal.number)}
        self._journal.trials[proposal.number] = trial.model_copy(update=update)
        self._told(self._journal.trials[proposal.number])

    def _failed(self, proposal: Proposal, message: str) -> None:
        trial = self._journal.trials[proposal.number]
        self._journal.trials[proposal.number] = trial.model_copy(update={"status": "failed", "message": message})
        self._told(self._journal.trials[proposal.number])

    def _told(self, trial: Trial) -> None:
        """Tell the oracle, the file and the reader."""
        self._oracle.tell(trial.number, trial.score, trial.message)
        self._save()
        number = f"trial {trial.number + 1} of {self._trials}"
        if trial.status == "failed":
            say(f"{number} failed: {trial.message}")
            return
        best = self._journal.completed[0]
        say(f"{number}: {self._journal.metric} {trial.value:.4f}, best {best.value:.4f} (trial {best.number + 1})")

    def _lead(self, number: int) -> tuple[float, float, float]:
        own, default = (np.load(self._work.checkpoints / name) for name in (f"{_name(number)}.npy", DEFAULT))
        lead = bootstrap({"lead": own - default}, seed=self._journal.seed)["lead"]
        return lead.mean, lead.low, lead.high


def _name(number: int) -> str:
    return f"trial-{number + 1:04}"


def _said(values: dict[str, Any]) -> str:
    return ", ".join(f"{path} {short(value)}" for path, value in values.items())
