"""Search a recipe's best values; the result is a table, a page and a recipe."""

from __future__ import annotations

import time
from pathlib import Path

from pipelines.artefacts import atomic_folder, check_folder, read_json, write_json
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput, Stopped
from pipelines.recipe import Recipe
from pipelines.result import Result
from pipelines.run import ORIGIN, RECIPE, Origin, origin_of
from pipelines.tuning.journal import Journal
from pipelines.tuning.oracle import Algorithm, Oracle
from pipelines.tuning.report import PAGE, TABLE, page_of, result_of, table_lines, table_of, table_rows, told
from pipelines.tuning.search import DEFAULT, Search
from pipelines.tuning.space import Space
from pipelines.tuning.worker import Worker
from pipelines.unfinished import SEARCH, partial_of, unfinished

RESULT = "tuning.json"
FILES = (RESULT, SEARCH, RECIPE, TABLE, PAGE, DEFAULT, ORIGIN)


def tune(
    recipe: Recipe,
    dataset: Dataset,
    out: Path | str,
    *,
    algorithm: Algorithm = "bayesian",
    trials: int = 10,
    minutes: float | None = None,
    workers: int = 1,
    seed: int | None = None,
    resume: bool = False,
    engine: str = "duckdb",
    master: str | None = None,
) -> Result:
    """Try values of the recipe's `search`, or of the usual space, and write the best recipe, a table and a page.

    A trial is the recipe with other values, trained as ever but without `refit`, and judged on the validation part with
    all its stages. The recipe as it is is tried first, outside of the count; every trial's lead over it has an interval
    over the same rows. The best of many on the same rows looks better than it is: judge it on the test part.

    Trials run in processes of their own, so that one that crashes is a failed trial: it is shown, counted, and the
    search goes on. Every question to the oracle and every answer is kept, in order, so that a search that was killed
    goes on as if it had not been, without repeating a finished trial; a trial in the middle goes on from its last
    epoch. With one worker, the same seed is the same search; with several, random search and the grid still try the
    same values, while the others depend on what ends first.

    Args:
        recipe: Where the search begins; its `search` names what is tried.
        dataset: Trained and judged on.
        out: The folder to make, with recipe.yaml (the best), tuning.json, a table and a page.
        algorithm: "random", "grid", "bayesian" or "hyperband" (KerasTuner's oracles).
        trials: At most, beside the recipe as it is.
        minutes: After which no trial is begun, and what runs ends with its epoch; it can be resumed.
        workers: Trials at once, on this machine.
        seed: Of the search; by default the recipe's.
        resume: Go on with a search that was not finished, or give a finished one more trials.
        engine, master: What prepares the events, as for `pipelines.data.engine.choose_engine`.

    Raises:
        BadInput: The space is not valid, the recipe cannot be trained as it is, no trial was completed, or as for
            `pipelines.training.train`.
        Stopped: Time is over and no trial was completed; what was begun is kept, for `resume`.

    Example:
        >>> from pipelines import Dataset, Run, tune
        >>> recipe = Run.open("run").recipe.changed({"search": {"towers.width": [8, 16]}})
        >>> result = tune(recipe, Dataset.open("data"), "tuned", algorithm="grid")  # doctest: +SKIP
        >>> [(row["trial"], row["status"]) for row in result.rows()]  # doctest: +SKIP
        [(0, 'completed'), (1, 'completed'), (2, 'completed')]
    """
    out = Path(out)
    check_folder(out, replaces=FILES)
    plain = recipe.changed({"training.refit": False})
    space = Space(plain, Space.of(recipe).keys)
    origin = origin_of(recipe, dataset)
    seed = recipe.training.seed if seed is None else seed
    earlier = _earlier(out, origin) if resume else None
    with unfinished(out, origin, recipe, resume=resume) as work:
        place = work.folder / SEARCH
        if earlier is not None and not place.exists():
            write_json(place, read_json(earlier / SEARCH))
            (work.checkpoints / DEFAULT).write_bytes((earlier / DEFAULT).read_bytes())
        journal = Journal.read(place, algorithm, seed)
        oracle = Oracle(
            algorithm,
            space,
            trials=trials,
            epochs=recipe.training.epochs,
            seed=seed,
            folder=str(work.scratch),
        )
        crew = [
            Worker(dataset.folder.resolve(), work.checkpoints, work.scratch, engine, master)
            for _ in range(min(workers, trials))
        ]
        until = None if minutes is None else time.time() + 60 * minutes
        try:
            complete = Search(work, journal, oracle, space, crew, until, trials).run()
        finally:
            for worker in crew:
                worker.kill()
        if not journal.completed:
            if not complete and minutes is not None:
                raise Stopped(f"no trial was completed in {minutes:g} minutes: go on with --resume, and give it more.")
            work.forget()
            raise BadInput(_none_completed(journal))
        result = result_of(journal, space, dataset.info.name, asked=trials, complete=complete)
        best = recipe.changed(journal.completed[0].values) if result["better"] else recipe.changed({})
        with atomic_folder(out, replaces=FILES) as draft:
            (draft / RECIPE).write_text(told(result) + best.dump(), encoding="utf-8")
            (draft / TABLE).write_text(table_of(journal, space), encoding="utf-8")
            (draft / PAGE).write_text(page_of(result, journal, space), encoding="utf-8")
            (draft / DEFAULT).write_bytes((work.checkpoints / DEFAULT).read_bytes())
            write_json(draft / RESULT, result)
            write_json(draft / ORIGIN, origin.model_dump())
            journal.write(draft / SEARCH)
    return Result(result, table_lines, table_rows)


def _earlier(out: Path, origin: Origin) -> Path | None:
    """A search that ended, and can be given more trials or time."""
    if partial_of(out).exists() or not (out / SEARCH).exists():
        return None
    what = Origin.model_validate(read_json(out / ORIGIN)).difference(origin)
    if what is not None:
        raise BadInput(f"{out} is a search with other {what}: go on with those, or give another --out.")
    return out


def _none_completed(journal: Journal) -> str:
    failed = [trial for trial in journal.trials if trial.status == "failed"]
    return f"none of {len(failed)} trials was completed; the first said: {failed[0].message}"
