from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.artefacts import sha256_of
from pipelines.cli.app import run as belfry
from pipelines.data.dataset import Dataset
from pipelines.errors import BadInput, Stopped
from pipelines.golden import TOLERANCE
from pipelines.quantisation.convert import VARIANTS, convert_all
from pipelines.quantisation.facts import EdgeFacts, add_edge
from pipelines.quantisation.freeze import freeze
from pipelines.quantisation.gate import edge_answers, pass_edge_gate
from pipelines.quantisation.golden import golden_of
from pipelines.quantisation.quantise import quantise
from pipelines.recipe import Recipe
from pipelines.run import Run
from pipelines.saved_model import export
from pipelines.training import train
from serving.edge.bundle import Bundle
from tests.pipelines.conftest import MakeDataset
from towers.runtime import tf
from towers.text import TextEncoder

FEW = {"histories": 60, "items": 24}


@pytest.fixture(scope="module")
def version(ranked_run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(Run.open(ranked_run_folder), tmp_path_factory.mktemp("models") / "ranked")


@pytest.fixture(scope="module")
def told(version: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What the command writes, nothing refused, and says."""
    folder, said = tmp_path_factory.mktemp("devices") / "out", io.StringIO()
    least = ("--keep", "0", "--keep-new", "0", "--histories", "60")
    with contextlib.redirect_stdout(said):
        assert belfry(["quantise", str(version), "--out", str(folder), "--variant", "all", *least]) == 0
    return folder, said.getvalue()


@pytest.fixture(scope="module")
def out(told: tuple[Path, str]) -> Path:
    return told[0]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_bundle_is_whole(out: Path, version: Path) -> None:
    names = {"user.tflite", "content.tflite", "ranker.tflite", "vocabulary.json", "wordpiece.txt", "items.npz"}
    for variant in ("float32", "dynamic_range"):
        folder = out / variant
        manifest = read(folder / "manifest.json")
        assert {path.name for path in folder.iterdir()} == names | {"golden.json", "manifest.json"}
        assert manifest["files"] == {name: sha256_of(folder / name) for name in names | {"golden.json"}}
        assert manifest["variant"] == variant
        assert (manifest["format"], manifest["model"], manifest["version"]) == (1, "ranked", 1)
        assert (manifest["history"], manifest["width"], manifest["tokens"]) == (8, 16, 12)
        assert manifest["ranking"]["retrieve"] == 20
        assert set(manifest["kept"]) == {"recall@10", "recall@50", "ndcg@10_change"}
        assert "files" not in manifest["source"]
        assert manifest["source"]["weights"] == read(version / "assets.extra" / "manifest.json")["weights"]
    assert {path.name for path in out.iterdir()} == {*VARIANTS, "onnx", "quantise.json", "report.html"}


@pytest.mark.parametrize("variant", ["float32", "float16", "dynamic_range"])
def test_the_edge_runtime_answers_golden_requests_within_the_stated_tolerance(variant: str, out: Path) -> None:
    golden = read(out / variant / "golden.json")
    requests, expected = golden_of(golden)
    found = edge_answers(out / variant, requests, expected.scores.shape[1])
    assert len(requests) == 200
    assert golden["tolerance"] == TOLERANCE if variant == "float32" else TOLERANCE <= golden["tolerance"] <= 0.1
    assert expected.difference(found, golden["tolerance"]) is None


def test_an_edge_runtime_that_answers_otherwise_is_found_out(out: Path, tmp_path: Path) -> None:
    requests, expected = golden_of(read(out / "float32" / "golden.json"))
    with np.load(out / "float32" / "items.npz") as file:
        columns = dict(file)
    columns["embedding"] = columns["embedding"][::-1]
    bundle = tmp_path / "bundle"
    shutil.copytree(out / "float32", bundle)
    np.savez(bundle / "items.npz", allow_pickle=False, **columns)
    manifest = read(bundle / "manifest.json")
    manifest["files"]["items.npz"] = sha256_of(bundle / "items.npz")
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Stopped, match="the edge runtime does not answer like the model"):
        pass_edge_gate(bundle, "float32", requests, expected, expected, TOLERANCE)


def shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, (shape, _) in model.inputs.items()}


def test_parts_take_what_the_format_says(out: Path) -> None:
    bundle = Bundle.open(out / "dynamic_range")
    signals = dict.fromkeys(("present", "age_seconds", "dwell_seconds", "scroll_depth"), (1, 8))
    context = dict.fromkeys(("language", "device", "time_seconds"), (1,))
    assert shapes(bundle.user) == {"history": (1, 8, 16), **signals, **context}
    text = {"token_ids": (1, 12), "padding_mask": (1, 12), "known": (1, 1)}
    assert shapes(bundle.content) == {**text, "tags": (1, 6), **dict.fromkeys(("category", "language", "item"), (1,))}
    table = {"embedding": (29, 16), "category": (29,), "tags": (29, 6), "appeal": (29,)}
    counted = dict.fromkeys(("item", "clicks", "click_rate", "age_hours"), (1, 20))
    assert shapes(bundle.ranker) == {"user": (1, 16), "history": (1, 8), **counted, **table}


def test_a_text_without_tokens_is_a_vector_of_numbers(out: Path) -> None:
    content = Bundle.open(out / "dynamic_range").content
    nothing = {name: np.zeros(shape, dtype) for name, (shape, dtype) in content.inputs.items()}
    assert np.isfinite(content(nothing)["embedding"]).all()


def test_strings_are_in_the_order_of_their_numbers(out: Path, version: Path, ranked_run_folder: Path) -> None:
    folder = out / "float32"
    assert read(folder / "vocabulary.json") == Run.open(ranked_run_folder).vocabulary.model_dump()
    tokens = (folder / "wordpiece.txt").read_text(encoding="utf-8").split("\n")
    assert tokens[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    special = {"pad": "[PAD]", "unknown": "[UNK]", "start": "[CLS]", "end": "[SEP]"}
    said = {"kind": "wordpiece", "lowercase": True, "strip_accents": True, "special": special}
    assert read(folder / "manifest.json")["text"] == said


def test_a_bundle_is_published_as_the_next_number(version: Path, tmp_path: Path) -> None:
    bundles = tmp_path / "bundles"
    (bundles / "7").mkdir(parents=True)
    settings = {"variants": ("float32",), "with_onnx": False, "publish_to": bundles, **FEW}
    result = quantise(version, tmp_path / "out", **settings)
    assert result["published"] == str(bundles / "8")
    assert Bundle.open(bundles / "8").identity == Bundle.open(tmp_path / "out" / "float32").identity
    with pytest.raises(BadInput, match="--publish takes one variant"):
        quantise(version, tmp_path / "out", **settings | {"variants": VARIANTS})


def test_the_same_version_gives_the_same_bundle(version: Path, out: Path, tmp_path: Path) -> None:
    quantise(version, tmp_path / "again", variants=("dynamic_range",), keep=0.9, with_onnx=False, **FEW)
    one, other = (read(folder / "dynamic_range" / "manifest.json") for folder in (out, tmp_path / "again"))
    assert one == other


def test_a_variant_that_keeps_too_little_is_refused_and_leaves_nothing(version: Path, tmp_path: Path) -> None:
    # int8 of a model this small is never exact.
    with pytest.raises(
        Stopped, match=r"nothing is written.*int8: it keeps [\d.]+% of the first ten.*100.00% are asked"
    ):
        quantise(version, tmp_path / "out", variants=("int8",), keep=1.0, keep_new=1.0, **FEW)
    assert list(tmp_path.iterdir()) == []


def test_a_converter_that_crashes_takes_nobody_along(version: Path, tmp_path: Path) -> None:
    """LiteRT aborts on the second stage in int8 or makes what it cannot load, which is why that stays in float."""
    loaded = tf.saved_model.load(str(version))  # whose variables live as long as it does
    rank = loaded.edge.rank
    freeze(rank).write(tmp_path / "judge.pb")
    specs = rank.structured_input_signature[1].items()
    np.savez(tmp_path / "judge.npz", **{name: np.zeros((2, *spec.shape), spec.dtype.name) for name, spec in specs})
    found = convert_all(tmp_path, ["int8", "float32"], tmp_path)
    assert str(found["int8"]).startswith(("the converter crashed on the judge (signal 6)", "the converter failed: "))
    assert found["float32"] is None


def test_what_is_refused_stands_in_the_table_beside_what_is_kept(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipelines.quantisation.quantise as module

    real = module.litert

    def broken(path: Path) -> Any:
        run = real(path)
        if path.parent.name != "float16" or path.stem != "content":
            return run
        return lambda inputs: {name: value * np.nan for name, value in run(inputs).items()}

    monkeypatch.setattr(module, "litert", broken)
    result = quantise(version, tmp_path / "out", variants=("float32", "float16"), keep=0.9, with_onnx=False, **FEW)
    assert "that are not finite" in result["variants"]["float16"]["refused"]
    assert result["variants"]["float32"]["refused"] is None
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"float32", "quantise.json", "report.html"}
    assert "not finite" in (tmp_path / "out" / "report.html").read_text()


def test_the_command_shows_a_table(told: tuple[Path, str]) -> None:
    out, said = told
    for words in (*VARIANTS, "recall@10 kept", "nDCG@10 change", "ONNX in float32", "written to"):
        assert words in said
    result = read(out / "quantise.json")
    assert list(result["variants"]) == list(VARIANTS)
    assert result["variants"]["int8"]["parts"]["ranker"]["precision"] == "float32"
    assert result["variants"]["float32"]["kept"]["recall@10"]["mean"] == 1
    assert result["onnx"]["parts"]["user"]["largest_difference"] < 1e-4


def test_bad_input_is_one_sentence(version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: object) -> str:
        assert belfry(["quantise", *map(str, arguments), "--out", str(tmp_path / "out")]) == 2
        return capsys.readouterr().err

    assert "is not an exported version" in said(version.parent)
    assert "--variant is float32" in said(version, "--variant", "int4")
    old = tmp_path / "models" / "1"
    shutil.copytree(version, old)
    (old / "assets.extra" / "edge.json").unlink()
    assert "was exported without what a conversion needs" in said(old)


def test_another_data_set_must_have_items_of_the_index(
    version: Path, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    read = [{"user_id": "u", "item_id": item, "kind": "click", "at": at} for at, item in enumerate(("x", "y"))]
    other = make_dataset(read, [{"item_id": "x"}, {"item_id": "y"}])
    with pytest.raises(BadInput, match="no history that ends in an item of"):
        quantise(version, tmp_path / "out", dataset=other)


def trained(values: dict[str, Any], dataset_folder: Path, folder: Path, **changes: Any) -> Path:
    training = {**values["training"], "epochs": 1, "batch_size": 128}
    recipe = Recipe.model_validate(values | {"training": training} | changes)
    train(recipe, Dataset.open(dataset_folder), folder / "run")
    return export(Run.open(folder / "run"), folder / "models")


def facts_of(run_folder: Path, **towers: Any) -> EdgeFacts:
    """Of a recommender of other towers, which gets no functions."""
    content = SimpleNamespace(width=16)
    module = SimpleNamespace(towers=SimpleNamespace(content=content, **towers), ranker=None, top_k=10)
    return add_edge(Run.open(run_folder), module)


def test_other_tokenisers_and_images_are_refused(run_folder: Path, multilingual_preset: str, tmp_path: Path) -> None:
    encoder = TextEncoder(multilingual_preset, 8)
    facts = facts_of(run_folder, text=encoder, image=None)
    assert "tokeniser (XLMRobertaTokenizer) is no WordPiece" in str(facts.refused)
    assert "takes images" in str(facts_of(run_folder, text=None, image=object()).refused)
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "saved_model.pb").touch()
    (tmp_path / "assets.extra" / "edge.json").write_text(facts.model_dump_json())
    with pytest.raises(BadInput, match="cannot be quantised: its text encoder's tokeniser"):
        EdgeFacts.read(tmp_path)


@pytest.mark.usefixtures("loaded_here")
def test_title_and_body_are_two_texts(
    tiny_preset: str, dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    text = {"preset": tiny_preset, "max_tokens": 12, "fields": "separate"}
    version = trained(small_recipe, dataset_folder, tmp_path, features={"text": text, "history": 4})
    quantise(version, tmp_path / "out", variants=("float32",), keep=0.9, with_onnx=False, **FEW)
    assert shapes(Bundle.open(tmp_path / "out" / "float32").content)["token_ids"] == (2, 12)


@pytest.mark.usefixtures("loaded_here")
def test_an_ensemble_is_one_longer_embedding(
    dataset_folder: Path, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    ensemble = {"linear": {"rank": 8, "regularisation": [5.0]}}
    features, data = {"text": None, "history": 4}, {**small_recipe["data"], "examples": "interactions"}
    version = trained(small_recipe, dataset_folder, tmp_path, features=features, ensemble=ensemble, data=data)
    quantise(version, tmp_path / "out", variants=("dynamic_range",), keep=0.9, with_onnx=False, **FEW)
    folder = tmp_path / "out" / "dynamic_range"
    assert read(folder / "manifest.json")["width"] == 16 + 9
    # Nor does this one read texts.
    assert not (folder / "wordpiece.txt").exists()
    assert "token_ids" not in Bundle.open(folder).content.inputs
