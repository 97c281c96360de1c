"""What all tests share: a cache of their own, a tiny text encoder, one import of TensorFlow."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import towers.runtime  # noqa: F401  (first, since a test that imports TensorFlow on its own would settle which Keras it has)
from tests.quick_exports import quick_exports

TOPICS = {
    "weather": ["storm", "harbour", "closes", "ferry", "wind", "rain", "flood", "coast"],
    "politics": ["minister", "vote", "budget", "parliament", "tax", "law"],
    "football": ["striker", "goal", "league", "coach", "cup", "match"],
    "food": ["recipe", "bread", "oven", "salt", "dinner", "wine"],
}
WORDS = [*(word for topic in TOPICS.values() for word in topic), "a", "an", "the", "of", "in", "and", "after"]


# Files that take a minute or more come first: at the end, one worker would be left alone with them. By itself xdist
# begins with the files of most tests (--no-loadscope-reorder).
LONG = (
    *("test_public_data", "test_demo", "test_commands", "test_resume", "test_steps", "test_quantise"),
    *("test_saved_model", "test_simulate", "test_tune", "test_distributed", "test_self_training"),
    *("test_warm_start", "test_faults"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONG)


def pytest_collection_finish() -> None:
    # A model server collects garbage for each version that it unloads: not among all that was imported.
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # or DuckDB tells of functions that it takes for leaked


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Text vectors computed by tests stay with the tests."""
    before = os.environ.get("BELFRY_CACHE")
    os.environ["BELFRY_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["BELFRY_CACHE"]
    else:
        os.environ["BELFRY_CACHE"] = before


@pytest.fixture
def loaded_here() -> Iterator[None]:
    """See `quick_exports`."""
    with quick_exports():
        yield


@pytest.fixture(scope="session")
def require() -> Callable[[object, str], None]:
    """Skip a test where the machine lacks something; with BELFRY_REQUIRE_ALL, as in continuous integration, fail."""

    def check(found: object, reason: str) -> None:
        if not found:
            (pytest.fail if os.environ.get("BELFRY_REQUIRE_ALL") else pytest.skip)(reason)

    return check


@pytest.fixture(scope="session")
def tiny_preset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a real keras-hub preset, small enough to run in milliseconds; its weights are random."""
    from towers.runtime import keras, keras_hub

    keras.utils.set_random_seed(5)
    folder: Path = tmp_path_factory.mktemp("preset") / "tiny"
    letters = list("abcdefghijklmnopqrstuvwxyz")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{each}" for each in letters)]
    vocabulary = list(dict.fromkeys(vocabulary))
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=vocabulary, lowercase=True)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(vocabulary), num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=32, dropout=0.0
    )
    backbone.save_to_preset(str(folder))
    tokenizer.save_to_preset(str(folder))
    return str(folder)


@pytest.fixture(scope="session")
def tiny_image_preset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same for images: a ResNet of four convolutions."""
    from towers.runtime import keras, keras_hub

    keras.utils.set_random_seed(5)
    folder = tmp_path_factory.mktemp("image_preset") / "tiny"
    keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],  # the library allows no fewer
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
    ).save_to_preset(str(folder))
    return str(folder)


@pytest.fixture(scope="session")
def multilingual_preset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny XLM-R preset with random weights, whose vocabulary was learned from four languages."""
    import io

    import sentencepiece

    from towers.runtime import keras, keras_hub

    texts = [
        "The striker scores a late goal in the cup and the league table changes",
        "Der Stürmer schießt ein spätes Tor im Pokal und die Tabelle ändert sich",
        "L’attaquant marque un but tardif en coupe et le classement change",
        "El delantero marca un gol tardío en la copa y la clasificación cambia",
    ]
    proto = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 5),
        model_writer=proto,
        vocab_size=80,
        hard_vocab_limit=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        minloglevel=2,
    )
    keras.utils.set_random_seed(6)
    folder: Path = tmp_path_factory.mktemp("preset") / "multilingual"
    tokenizer = keras_hub.models.XLMRobertaTokenizer(proto=proto.getvalue())
    backbone = keras_hub.models.XLMRobertaBackbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        dropout=0.0,
    )
    backbone.save_to_preset(str(folder))
    tokenizer.save_to_preset(str(folder))
    return str(folder)


@pytest.fixture(scope="session")
def dataset_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset with slates: 48 items of four topics, 60 users who each click on one topic."""
    import numpy as np
    import pandas as pd

    from pipelines.data.sources.table import import_table

    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(11)
    topics = list(TOPICS)
    items = pd.DataFrame(
        {
            "item_id": f"i{number:02}",
            "title": " ".join(rng.choice(TOPICS[topics[number % 4]], 4)),
            "body": " ".join(rng.choice(TOPICS[topics[number % 4]], 6)),
            "language": ["en", "de"][number % 8 // 4],
            "category": topics[number % 4],
            "tags": f"t{number % 5}|t{number % 3}",
            "published_at": f"2025-01-01T{number % 24:02}:00:00Z",
        }
        for number in range(48)
    )
    events = []
    for request in range(500):
        user = int(rng.integers(60))
        at = pd.Timestamp("2025-02-01T00:00:00Z") + pd.Timedelta(minutes=10 * request)
        device = ["mobile", "desktop", "tablet", ""][request % 4]
        for position, item in enumerate(rng.choice(48, 6, replace=False)):
            shown = {"user_id": f"u{user:02}", "item_id": f"i{item:02}", "at": at.isoformat()}
            shown |= {"request_id": f"r{request}", "position": position, "device": device}
            events.append(shown | {"kind": "impression"})
            if rng.random() < (0.7 if item % 4 == user % 4 else 0.05):
                dwell = int(rng.integers(5, 100))
                events.append(shown | {"kind": "click", "dwell_seconds": dwell, "scroll_depth": dwell / 100})
    users = pd.DataFrame({"user_id": [f"u{user:02}" for user in range(60)], "language": ["en", "de"] * 30})
    for name, table in (("items", items), ("events", pd.DataFrame(events)), ("users", users)):
        table.to_csv(folder / f"{name}.csv", index=False)
    import_table(
        folder / "events.csv", folder / "data", items=folder / "items.csv", users=folder / "users.csv", name="small"
    )
    return folder / "data"


@pytest.fixture(scope="session")
def grown_dataset_folder(dataset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`dataset_folder`, and all of its events once more ten days later: a store that has gone on."""
    import pandas as pd

    from pipelines.data.sources.table import import_table

    folder, source = tmp_path_factory.mktemp("grown"), dataset_folder.parent
    events = pd.read_csv(source / "events.csv", dtype=str, keep_default_na=False)
    at = pd.to_datetime(events["at"]) + pd.Timedelta(days=10)
    later = events.assign(at=at.map(pd.Timestamp.isoformat), request_id="later-" + events["request_id"])
    pd.concat([events, later]).to_csv(folder / "events.csv", index=False)
    named = {"items": source / "items.csv", "users": source / "users.csv", "name": "grown"}
    import_table(folder / "events.csv", folder / "data", **named)
    return folder / "data"


@pytest.fixture(scope="session")
def small_recipe(tiny_preset: str) -> dict[str, dict[str, object]]:
    """A recipe that trains in seconds and uses every input; copy it before changing it."""
    return {
        "data": {"split": {"by": "time", "validation": 0.15, "test": 0.2}},
        "features": {"text": {"preset": tiny_preset, "max_tokens": 12}, "history": 8},
        "towers": {"width": 16, "history_units": 8, "dropout": 0.0, "projection": "train"},
        "training": {"epochs": 4, "batch_size": 32, "learning_rate": 0.01, "seed": 3},
        "export": {"top_k": 10},
    }


@pytest.fixture(scope="session")
def plain_recipe(small_recipe: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """`small_recipe` with the plainest history encoder, for tests that train many models and whose matter is another:
    the graph of a GRU and its gradients is half of what it costs to train so small a model."""
    return {**small_recipe, "towers": {**small_recipe["towers"], "history_encoder": "mean"}}


@pytest.fixture(scope="session")
def run_folder(
    dataset_folder: Path, small_recipe: dict[str, dict[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A trained run on `dataset_folder`."""
    from pipelines.data.dataset import Dataset
    from pipelines.recipe import Recipe
    from pipelines.training import train

    out = tmp_path_factory.mktemp("runs") / "small"
    train(Recipe.model_validate(small_recipe), Dataset.open(dataset_folder), out)
    return out


@pytest.fixture(scope="session")
def ranked_run_folder(
    dataset_folder: Path, small_recipe: dict[str, dict[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A trained run of two stages on `dataset_folder`, with crosses; the first stage hands over 20 items."""
    from pipelines.data.dataset import Dataset
    from pipelines.recipe import Recipe
    from pipelines.training import train

    out = tmp_path_factory.mktemp("runs") / "ranked"
    ranking = {
        "tasks": {"click": 1.0, "read": 0.5, "like": 0.0},
        "crosses": 1,
        "projection": 4,
        "epochs": 3,
        "retrieve": 20,
    }
    training = {**small_recipe["training"], "epochs": 1}
    recipe = Recipe.model_validate({**small_recipe, "training": training, "ranking": ranking})
    train(recipe, Dataset.open(dataset_folder), out)
    return out


@pytest.fixture(scope="session")
def model_folder(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with version 1 exported from `run_folder`."""
    from pipelines.run import Run
    from pipelines.saved_model import export

    folder = tmp_path_factory.mktemp("models") / "small"
    export(Run.open(run_folder), folder)
    return folder
