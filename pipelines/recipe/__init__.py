"""A recipe: one typed file from which a run can be repeated."""

from pipelines.recipe.adaptation import Adaptation
from pipelines.recipe.audit import Audit, Limit
from pipelines.recipe.file import Recipe
from pipelines.recipe.inputs import Data, Features, Image, Split, Text
from pipelines.recipe.learning import FineTuning, ImageTuning, Stage, Training
from pipelines.recipe.model import Ensemble, Export, Linear, Ranking, Specialists, Towers
from pipelines.recipe.search import Range, Search

__all__ = [
    "Adaptation",
    "Audit",
    "Data",
    "Ensemble",
    "Export",
    "Features",
    "FineTuning",
    "Image",
    "ImageTuning",
    "Limit",
    "Linear",
    "Range",
    "Ranking",
    "Recipe",
    "Search",
    "Specialists",
    "Split",
    "Stage",
    "Text",
    "Towers",
    "Training",
]
