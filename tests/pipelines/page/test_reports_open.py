"""Every report in a real browser, from disk: without a network, without an error, on a phone and in the dark.

Pages of `tune`, `simulate` and `quantise` are made here from results that these commands wrote (folder `results`),
since they take minutes; their own tests see to it that they write such pages.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.ablation import PAGE as ABLATION_PAGE
from pipelines.ablation import ablate
from pipelines.artefacts import read_json
from pipelines.data.audit import audit
from pipelines.data.dataset import Dataset
from pipelines.evaluation import evaluate
from pipelines.folds import PAGE as FOLDS_PAGE
from pipelines.folds import cross_validate
from pipelines.quantisation.report import quantise_page
from pipelines.recipe import Recipe
from pipelines.run import REPORT, Run
from pipelines.simulation.page import simulation_page
from pipelines.tuning.journal import Journal
from pipelines.tuning.report import page_of, result_of
from pipelines.tuning.space import Space

RESULTS = Path(__file__).parent / "results"
PHONE, DESK = 390, 1280
# Each page, and something that it says.
PAGES = {
    "audit": "Findings",
    "train": "Course of the towers",
    "train-ranked": "Second stage",
    "evaluate": "Slates, by slice",
    "evaluate-ranked": "Calibration of the second stage",
    "folds": "Over the folds",
    "ablate": "All metrics",
    "tune": "What was tried",
    "quantise": "Parts",
    "simulate": "Nights",
}
Open = Callable[..., Any]


def written(made: str, folder: Path) -> Path:
    (folder / "page.html").write_text(made, encoding="utf-8")
    return folder / "page.html"


@pytest.fixture(scope="module")
def pages(
    dataset_folder: Path,
    run_folder: Path,
    ranked_run_folder: Path,
    small_recipe: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Path]:
    """Where a report is, made when it is asked for."""
    data = Dataset.open(dataset_folder)
    quick = {**small_recipe, "training": {**small_recipe["training"], "epochs": 1}}

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        if name == "audit":
            audit(data, Recipe(), out=folder / "audit")
            return folder / "audit" / "audit.html"
        if name.startswith("train"):
            return (ranked_run_folder if name.endswith("ranked") else run_folder) / REPORT
        if name.startswith("evaluate"):
            run = Run.open(ranked_run_folder if name.endswith("ranked") else run_folder)
            evaluate(run, report=folder / "page.html")
            return folder / "page.html"
        if name == "folds":
            cross_validate(Recipe.model_validate(quick), data, folder / "folds", folds=2)
            return folder / "folds" / FOLDS_PAGE
        if name == "ablate":
            recipe = Recipe.model_validate({**quick, "balance": {"weights": 0.5}})
            ablate(recipe, data, folder / "ablation")
            return folder / "ablation" / ABLATION_PAGE
        if name == "tune":
            journal = Journal.model_validate(read_json(RESULTS / "search.json"))
            searched = {"training.learning_rate": [0.02, 1e30, 0.01]}
            space = Space.of(Recipe.model_validate({**quick, "search": searched}))
            result = result_of(journal, space, data.info.name, asked=5, complete=True)
            return written(page_of(result, journal, space), folder)
        if name == "quantise":
            return written(quantise_page(read_json(RESULTS / "quantise.json")), folder)
        return written(simulation_page(read_json(RESULTS / "simulation.json")), folder)

    made: dict[str, Path] = {}
    return lambda name: made.setdefault(name, made.get(name) or make(name))


@pytest.mark.parametrize("name", PAGES)
def test_a_report_opens_from_disk(
    pages: Callable[[str], Path], name: str, request: pytest.FixtureRequest, keep_screenshot: Callable[[Any, str], None]
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    address = pages(name).resolve().as_uri()  # before the browser, which has an event loop
    browser = request.getfixturevalue("browser")
    for scheme, width in (("light", DESK), ("dark", DESK), ("light", PHONE)):
        complaints: list[str] = []
        asked: list[str] = []
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, offline=True)
        page = context.new_page()
        page.on("console", lambda each, told=complaints: told.append(each.text))
        page.on("pageerror", lambda error, told=complaints: told.append(str(error)))
        page.on("request", lambda each, urls=asked: urls.append(each.url))
        page.goto(address)
        keep_screenshot(page, f"report-{name}-{scheme}-{width}")
        assert asked == [address]
        assert page.title()
        assert page.locator("h1").inner_text() == page.title()
        assert PAGES[name] in page.locator("main").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert overlaps(page) == [], f"{name}, {scheme}, {width}"
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert not complaints  # axe-core itself is a script, which the page's policy would have stopped
        context.close()
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 900}, offline=True, bypass_csp=True
        )
        page = context.new_page()
        page.goto(address)
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        found = Axe().run(page)
        assert found.violations_count == 0, f"{name}, {scheme}, {width}: {found.generate_report()}"
        context.close()


def overlaps(page: Any) -> list[str]:
    """Words of a chart that lie on other words."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll('svg')].flatMap(svg => {
            const words = [...svg.querySelectorAll('text')]
                .map(each => [each.textContent, each.getBoundingClientRect()]);
            return words.flatMap(([a, one], place) => words.slice(place + 1)
                .filter(([, two]) => one.left + 1 < two.right && two.left + 1 < one.right
                    && one.top + 3 < two.bottom && two.top + 3 < one.bottom)
                .map(([b]) => `${svg.querySelector('title').textContent}: ${a} on ${b}`));
        })"""
    )
    return found
