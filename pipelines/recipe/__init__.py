"""A recipe: one typed file from which a run can be repeated."""

from pipelines.recipe.adaptation import Adaptation
from pipelines.recipe.audit import Audit, Limit
from pipelines.recipe.augmentation import Augmentation, HistoryAugmentation, TextAugmentation
from pipelines.recipe.balance import Balance, Fill, Simulated, Synthetic, Upsample
from pipelines.recipe.file import Recipe
from pipelines.recipe.inputs import Data, Features, Image, Moments, Split, Text
from pipelines.recipe.learning import FineTuning, ImageTuning, Stage, Training
from pipelines.recipe.model import Ensemble, Export, Linear, Ranking, Specialists, Towers
from pipelines.recipe.retraining import Retraining
from pipelines.recipe.search import Range, Search
from pipelines.recipe.self_training import SelfTraining

__all__ = [
    "Adaptation",
    "Audit",
    "Augmentation",
    "Balance",
    "Data",
    "Ensemble",
    "Export",
    "Features",
    "Fill",
    "FineTuning",
    "HistoryAugmentation",
    "Image",
    "ImageTuning",
    "Limit",
    "Linear",
    "Moments",
    "Range",
    "Ranking",
    "Recipe",
    "Retraining",
    "Search",
    "SelfTraining",
    "Simulated",
    "Specialists",
    "Split",
    "Stage",
    "Synthetic",
    "Text",
    "TextAugmentation",
    "Towers",
    "Training",
    "Upsample",
]
