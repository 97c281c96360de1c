"""Retrain the champion on fresh events, and make what passes the gate a candidate."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.artefacts import atomic_file, read_json, write_json
from pipelines.data.dataset import Dataset
from pipelines.data.splits import Part
from pipelines.errors import BadInput
from pipelines.prepare import Prepared, seen_by
from pipelines.progress import say
from pipelines.recipe import Recipe
from pipelines.registry import Registry
from pipelines.retraining.champion import RUNS, Champion, champion_of, champion_version, exported_from
from pipelines.retraining.gate import Verdict, gate
from pipelines.retraining.journal import Journal, alone, forget, new_id, source_of
from pipelines.retraining.recent import Recent, write_recent
from pipelines.run import RECIPE, Run
from pipelines.saved_model import export
from pipelines.trained import trained_ranker
from pipelines.training import Trained, train
from pipelines.warm_start import check_warm_start

DATA, RUN, GATE, REPORT, _EXPORTED = "data", "run", "gate.json", "report.json", "store"


@dataclass(frozen=True)
class Retrained:
    """What a retraining came to.

    Attributes:
        accepted: Whether the gate let it pass; if not, the registry is as it was.
        version: The new candidate; None where the gate refused it.
        champion: The version that it was judged against, and began with.
        run: Its run folder, which is kept in either case.
        recent: What it was trained and judged on.
        verdict: The gate's.
        training: metrics.json of the run; `warm_start` says what was copied.
        report: The file that holds all this.

    Example:
        >>> from pipelines import retrain
        >>> done = retrain("models", "news", "work", store="store")  # doctest: +SKIP
        >>> done.accepted, done.version, done.verdict.why  # doctest: +SKIP
    """

    accepted: bool
    version: int | None
    champion: int
    run: Path
    recent: Recent
    verdict: Verdict
    training: dict[str, Any]
    report: Path

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "accepted": self.accepted,
            "version": self.version,
            "champion": self.champion,
            "run": str(self.run),
            "data": self.recent.model_dump(),
            "gate": self.verdict.model_dump(),
            "training": self.training,
            "report": str(self.report),
        }

    def lines(self) -> list[str]:
        """For a reader."""
        warm = self.training["warm_start"]
        rows = ", ".join(f"{name} {each['kept']:,} and {each['new']:,} new" for name, each in warm["rows"].items())
        copied = f"begun with version {self.champion}: {warm['weights']:,} weights"
        end = f"version {self.version} is a candidate" if self.accepted else "refused: the registry is as it was"
        return [
            *self.recent.lines(),
            copied + (f", rows of {rows}" if rows else ""),
            f"epoch {self.training['best_epoch']} of {self.training['epochs']} kept",
            f"{self.verdict.metric} of {self.verdict.on}: champion {self.verdict.champion:.4f}, "
            f"candidate {self.verdict.candidate:.4f}",
            self.verdict.why,
            f"{end} (report in {self.report})",
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def retrain(
    models: Path | str,
    name: str,
    work: Path | str,
    *,
    now: datetime | None = None,
    store: Path | str | None = None,
    data: Path | str | None = None,
    recipe: Recipe | None = None,
    run: Path | str | None = None,
    days: float | None = None,
    replay: float | None = None,
    why: str = "",
    anew: bool = False,
) -> Retrained:
    """Retrain the champion of a model on what is fresh in a store or dataset.

    The steps: a dataset of fresh and replayed events (`recent`); training from the champion's weights, by the recipe's
    own schedule, its validation choosing the epoch, epoch 0 (the champion itself) included; the gate on the newest
    window, which neither was trained on (`gate`); where that accepts, with `retraining.refit`, training once more from
    the champion on everything for as many epochs as were best; the export, which has a gate of its own; and a candidate
    in the registry. Nobody promotes it here.

    One runs at a time in `work`. What it was begun with is in a journal there: killed at any moment and started again,
    it goes on with those inputs, whatever is given now, and comes to the same result. The champion is untouched
    throughout. Where another version has become the champion before the export, the gate's verdict would be about
    yesterday: it is dropped and begun anew. After the export it is finished, and its reason names the version it beat.

    In WORK: `retrainings/ID` with the dataset, the run, the gate's verdict and the report of each, and `runs/VERSION`,
    links to the runs of the versions that came of it. None is ever removed here.

    Args:
        models: The folder with MODELS/NAME/VERSION and the registry. A model that this does not know is added: its
            newest version is the champion.
        now: The moment until which events count; by default the present. Without an offset it is UTC.
        store: A serving store's folder or URL.
        data: A dataset folder instead of a store.
        recipe: Its features and towers must be the champion's, whose recipe it is by default.
        run: A run folder that may be the champion's: one that is neither in WORK/runs nor where it was when it was
            exported. Of all three, the one counts whose weights were exported.
        days, replay: Instead of the recipe's `retraining.days` and `retraining.replay`.
        why: What triggered it, for the registry.
        anew: Drop a retraining that was begun and not finished.
        name: The model's.
        work: Where runs, datasets and reports of retrainings are kept.

    Raises:
        Busy: Another is running in `work`.
        BadInput: There is no champion or run to begin with, nothing fresh, or nothing to judge on; or another
            retraining was begun there and not finished.
        AssertionError: The export's gate found that a server would not answer as the model does. After either of
            these two, the next retraining is a new one.

    Example:
        >>> from pipelines import Registry, retrain
        >>> done = retrain("models", "news", "work", store="store", days=14)  # minutes  # doctest: +SKIP
        >>> print(done)  # doctest: +SKIP
        >>> if done.accepted:  # doctest: +SKIP
        ...     Registry("models").promote("news", done.version, done.verdict.why)
    """
    source = store if store is not None else data
    if source is None or (store is not None and data is not None):
        raise BadInput("name where the events are: a store, or a dataset.")
    now = now or datetime.now(UTC)
    now = (now.replace(tzinfo=UTC) if now.tzinfo is None else now).astimezone(UTC)
    models, work = Path(models), Path(work)
    data, run = None if data is None else Path(data), None if run is None else Path(run)
    with alone(work):
        if anew:
            forget(work)
        while True:
            journal = Journal.read(work)
            if journal is not None:
                _check(journal, work, models, name, source)
            if journal is not None and _is_stale(journal, models):
                say(f"version {journal.champion} is no longer the champion: the retraining from it is dropped")
                journal = None
            if journal is None:
                journal = _begin(models, name, work, now, source, recipe, run, {"days": days, "replay": replay}, why)
            else:
                say(f"going on with the retraining that was begun for {journal.now:%Y-%m-%d %H:%M}")
            try:
                done = _Retraining(journal, models, work, store, data).go()
            except (BadInput, AssertionError):
                # It would fail like this forever, and keep everyone after it from what they were started for.
                forget(work)
                raise
            if done is not None:
                return done


def _check(journal: Journal, work: Path, models: Path, name: str, source: Path | str) -> None:
    begun = (journal.models, journal.model, journal.source)
    if begun != (str(Path(models).resolve()), name, source_of(source)):
        raise BadInput(
            f"{work} holds an unfinished retraining of {journal.model} in {journal.models}, of the events that it was "
            "begun with: finish it as it was begun, or drop it with --anew."
        )


def _is_stale(journal: Journal, models: Path) -> bool:
    """Whether another version is the champion, before there is anything of this one to show."""
    champion = Registry(models).model(journal.model).holder("champion")
    return journal.version is None and champion != journal.champion


def _begin(
    models: Path,
    name: str,
    work: Path,
    now: datetime,
    source: Path | str,
    recipe: Recipe | None,
    run: Path | None,
    changed: dict[str, Any],
    why: str,
) -> Journal:
    """Fix the inputs."""
    champion = champion_of(models, name, work, champion_version(models, name), run)
    values = {f"retraining.{key}": value for key, value in changed.items() if value is not None}
    wanted = (recipe or champion.run.recipe).changed(values)
    check_warm_start(wanted, champion.run)
    journal = Journal(
        id=new_id(work, now),
        model=name,
        models=str(Path(models).resolve()),
        source=source_of(source),
        now=now,
        champion=champion.version,
        run=str(champion.run.folder),
        why=why,
    )
    with atomic_file(journal.folder(work) / RECIPE) as draft:
        draft.write_text(wanted.dump(), encoding="utf-8")
    journal.write(work)
    return journal


class _Retraining:
    """One retraining; every step is skipped where it was done before."""

    def __init__(self, journal: Journal, models: Path, work: Path, store: Path | str | None, data: Path | None) -> None:
        self.journal, self.models, self.work, self.store, self.data = journal, models, work, store, data
        self.folder = journal.folder(work)
        for left in self.folder.glob(".*"):
            # Drafts of a process that was killed; nobody else writes here.
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        self.champion: Champion = champion_of(models, journal.model, work, journal.champion, Path(journal.run))
        recipe = Recipe.load(self.folder / RECIPE)
        self.recent = journal.recent or self._write_dataset(recipe)
        split = {"by": "moments", "validation": 0.0, "test": 0.0, "moments": self.recent.moments.model_dump()}
        self.recipe = recipe.changed({"data.split": split})

    def go(self) -> Retrained | None:
        """From the dataset to a candidate or a refusal; None where the champion has changed on the way."""
        metrics = train(
            self.recipe,
            Dataset.open(self.folder / DATA),
            self.folder / RUN,
            resume=True,
            warm_start=self.champion.run,
            judge=self._judge,
        )
        verdict = Verdict.model_validate(read_json(self.folder / GATE))
        result = Retrained(
            verdict.accepted,
            None,
            self.champion.version,
            self.folder / RUN,
            self.recent,
            verdict,
            metrics,
            self.folder / REPORT,
        )
        if verdict.accepted:
            version = self._export()
            if version is None:
                return None
            self._register(version, verdict)
            result = replace(result, version=version)
        write_json(result.report, {"now": self.journal.now.isoformat(), "why": self.journal.why, **result.as_dict()})
        forget(self.work)
        return result

    def _write_dataset(self, recipe: Recipe) -> Recent:
        journal, until = self.journal, self.champion.trained_until
        exported = self.folder / _EXPORTED
        if self.store is not None:
            from pipelines.data.sources.store import import_store

            report = import_store(self.store, exported, name=journal.model, now=journal.now)
            say("\n".join(report.lines()))
        dataset = Dataset.open(exported if self.data is None else self.data)
        out = self.folder / DATA
        rankings = [each.ranking for each in (recipe, self.champion.run.recipe)]
        counted = any(ranking is not None and "click_rate" in ranking.features for ranking in rankings)
        recent = write_recent(dataset, out, recipe=recipe, now=journal.now, trained_until=until, whole_slates=counted)
        shutil.rmtree(exported, ignore_errors=True)
        self.journal = journal.model_copy(update={"recent": recent})
        self.journal.write(self.work)
        say("\n".join(recent.lines()))
        return recent

    def _judge(self, recipe: Recipe, data: Prepared, trained: Trained) -> Collection[Part]:
        """Once for each retraining: a killed one finds the verdict that it had come to."""
        path = self.folder / GATE
        if not path.exists():
            dataset = Dataset.open(self.folder / DATA)
            champion = trained_ranker(self.champion.run, seen_by(self.champion.run, dataset, data))
            verdict = gate(recipe, data, trained.ranker(recipe, data), champion)
            write_json(path, verdict.model_dump())
        verdict = Verdict.model_validate(read_json(path))
        say(f"{'accepted' if verdict.accepted else 'refused'}: {verdict.why}")
        return (Part.VALIDATION, Part.TEST) if verdict.accepted and recipe.retraining.refit else ()

    def _export(self) -> int | None:
        """The new version, exported if it is not there already; None where it would follow on a champion of before."""
        run, name = Run.open(self.folder / RUN), self.journal.model
        version = self.journal.version or exported_from(self.models, name, run)
        if version is None:
            if _is_stale(self.journal, self.models):
                return None
            version = int(export(run, self.models / name).name)
        self.journal = self.journal.model_copy(update={"version": version})
        self.journal.write(self.work)
        return version

    def _register(self, version: int, verdict: Verdict) -> None:
        registry, name = Registry(self.models), self.journal.model
        if version not in registry.model(name).states:
            reason = f"retrained from version {self.champion.version}: {verdict.why}"
            registry.add(name, version, f"{self.journal.why}; {reason}" if self.journal.why else reason)
        link = self.work / RUNS / str(version)
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(self.folder.resolve() / RUN, link.parent.resolve()))
