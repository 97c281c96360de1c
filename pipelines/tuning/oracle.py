"""KerasTuner's oracles, with a log from which one can be brought back to where it was."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pipelines.errors import BadInput
from pipelines.tuning.space import Space

Algorithm = Literal["random", "grid", "bayesian", "hyperband"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
_OBJECTIVE = "score"
_BELOW_ALL = -1.0  # no metric is
_FACTOR = 3  # of Hyperband: one in three goes on, three times as long


@dataclass(frozen=True)
class Proposal:
    """What an oracle asks for.

    Attributes:
        number: Of the trial, from 0.
        values: KerasTuner's, by path.
        epochs: That Hyperband gives it, or None.
        continues: The trial from whose state it goes on, or None.
    """

    number: int
    values: dict[str, Any]
    epochs: int | None = None
    continues: int | None = None


class Oracle:
    """Proposes trials and is told their scores.

    KerasTuner's own files are not used: they are not replaced as a whole, so that a kill can break them, and its grid
    forgets where it was. Instead every question and answer is kept in `events`; put to a new oracle of the same space
    and seed in the same order, they bring it to the same state.

    Args:
        algorithm: Random search, the whole grid from the recipe's own values on, Gaussian processes with an upper
            confidence bound (Snoek et al. 2012), or Hyperband (Li et al. 2018).
        space: What is searched.
        trials: At most so many.
        epochs: The most that Hyperband gives to a trial.
        seed: Of everything that is drawn.
        folder: A scratch folder, which KerasTuner insists to write to.
    """

    def __init__(self, algorithm: Algorithm, space: Space, *, trials: int, epochs: int, seed: int, folder: str) -> None:
        from towers.runtime import import_keras_tuner

        keras_tuner = import_keras_tuner()
        common = {
            "objective": keras_tuner.Objective(_OBJECTIVE, "max"),
            "hyperparameters": space.hyperparameters(),
            # KerasTuner takes 0 for no seed at all.
            "seed": seed + 1,
            # Bounded by the number of trials; that all have failed is told at the end.
            "max_consecutive_failed_trials": trials + 1,
        }
        oracles = keras_tuner.oracles
        if algorithm == "random":
            self._oracle = oracles.RandomSearchOracle(max_trials=trials, **common)
        elif algorithm == "grid":
            self._oracle = oracles.GridSearchOracle(max_trials=trials, **common)
        elif algorithm == "bayesian":
            # By default three a dimension, which leaves a short search no time to learn.
            first = max(2, min(2 * len(space.keys), trials // 3))
            self._oracle = oracles.BayesianOptimizationOracle(max_trials=trials, num_initial_points=first, **common)
        else:
            self._oracle = oracles.HyperbandOracle(
                max_epochs=epochs, factor=_FACTOR, hyperband_iterations=None, **common
            )
            self._oracle.max_trials = trials
            self._begin_smaller(trials)
        self._oracle.verbose = 0
        self._oracle._set_project_dir(folder, "oracle")
        self._halves = algorithm == "hyperband"
        self._running: dict[int, Any] = {}
        self.events: list[dict[str, Any]] = []

    def _begin_smaller(self, trials: int) -> None:
        """Begin with a bracket that so many trials finish, else all would end after their first few epochs."""
        oracle = self._oracle
        while oracle._current_bracket > 0:
            bracket = oracle._current_bracket
            if sum(oracle._get_size(bracket, round_) for round_ in range(bracket + 1)) <= trials:
                return
            oracle._current_bracket, oracle._brackets = bracket - 1, []
            oracle._start_new_bracket()

    def ask(self) -> Proposal | Literal["wait", "stop"]:
        """The next trial; `wait` until a running one has been told, or `stop`, for there is no more."""
        return self._ask(None)

    def _ask(self, values: dict[str, Any] | None) -> Proposal | Literal["wait", "stop"]:
        """Ask; of a question put before, `values` are what was answered then."""
        # Names as KerasTuner has them depend on `trials`; numbers do not.
        number = len(self._oracle.trials)
        with warnings.catch_warnings():
            # That its Gaussian process has found a length at the edge is no matter for the reader.
            warnings.filterwarnings("ignore", module="sklearn.gaussian_process")
            trial = self._oracle.create_trial(f"trial-{number}")
        if trial.status != "RUNNING":
            # Idle with nothing running is a wait for ever.
            answer: Literal["wait", "stop"] = "wait" if trial.status == "IDLE" and self._running else "stop"
            self.events.append({"asked": answer})
            return answer
        found = trial.hyperparameters.values
        if values is not None and found != values:
            # Another machine's last digit; what was tried counts.
            found = trial.hyperparameters.values = dict(values)
        self._running[number] = trial
        self.events.append({"asked": number, "values": dict(found)})
        parent = found.get("tuner/trial_id")
        return Proposal(number, dict(found), found.get("tuner/epochs"), None if parent is None else int(parent))

    def tell(self, number: int, score: float | None, message: str = "") -> None:
        """How a running trial ended: its score, or None for a failure and why."""
        trial = self._running.pop(number)
        if score is None and not self._halves:
            trial.status, trial.message = "FAILED", message
        else:
            # Hyperband waits until all of a round are completed, so that a failed one is told as the last of them.
            self._oracle.update_trial(trial.trial_id, {_OBJECTIVE: _BELOW_ALL if score is None else score})
            trial.status = "COMPLETED"
        self._oracle.end_trial(trial)
        self.events.append({"told": number, "score": score, "message": message})

    def replay(self, events: Iterable[dict[str, Any]]) -> list[Proposal]:
        """Put the questions and answers of an earlier search; returns the trials that it left running.

        Raises:
            BadInput: They are not of such a search.
        """
        running: dict[int, Proposal] = {}
        try:
            for event in events:
                if "told" in event:
                    self.tell(event["told"], event["score"], event["message"])
                    running.pop(event["told"])
                    continue
                if event["asked"] == "stop":
                    # With more trials than before there may be one.
                    continue
                answer = self._ask(event.get("values"))
                if isinstance(answer, Proposal):
                    running[answer.number] = answer
                if event["asked"] != (answer.number if isinstance(answer, Proposal) else answer):
                    raise KeyError("asked")
        except (KeyError, TypeError, AttributeError):
            raise BadInput(
                "the unfinished search cannot be gone on with: it asked for other trials. Start it anew."
            ) from None
        return list(running.values())
