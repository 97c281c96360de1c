"""The command line: bad input is one sentence and exit code 2, and help is instant."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import app as cli
from pipelines.cli.app import run
from pipelines.data.dataset import Dataset
from pipelines.data.sources import table as table_source
from pipelines.errors import BadInput
from pipelines.vocabulary import Vocabulary

Make = Callable[..., Dataset]
EVENTS = "user_id,item_id,at\nu,a,1\nu,b,2\n"
HEAVY = ["tensorflow", "keras", "tf_keras", "keras_hub", "pandas", "ibis", "duckdb", "pyarrow", "sklearn", "scipy"]
HEAVY += ["numpy", "grpc", "PIL"]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail, and return its one sentence."""

    def refused(*arguments: object) -> str:
        assert run([str(argument) for argument in arguments]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert line.startswith("belfry: ")
        assert "Traceback" not in line
        return line

    return refused


@pytest.fixture
def dataset(make_dataset: Make) -> Path:
    events = [{"user_id": "u", "item_id": f"i{number}", "kind": "click", "at": number} for number in range(4)]
    return make_dataset(events, [{"item_id": f"i{number}", "title": "T"} for number in range(4)]).folder


@pytest.fixture
def run_folder(tmp_path: Path, dataset: Path) -> Path:
    """A run folder that can be opened; its weights are empty."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("")
    (folder / "model.weights.h5").write_text("")
    (folder / "vocabulary.json").write_text(json.dumps({name: [] for name in Vocabulary.model_fields}))
    origin = {"dataset": str(dataset), "dataset_name": "d", "first_at": None, "last_at": None, "platform": "any"}
    (folder / "origin.json").write_text(json.dumps(origin | {"versions": {}}))
    return folder


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["train", "r.yaml", "--dta", "d", "--out", "o"], "No such option: --dta"),
        (["train", "r.yaml", "--data", "d"], "Missing option '--out'"),
        (["train"], "Missing argument 'RECIPE'"),
        (["evaluate", "run", "and more"], "unexpected extra argument"),
        (["recommend", "run", "--data", "d", "--out", "o", "--k", "many"], "Invalid value for '--k'"),
        (["recommend", "run", "--data", "d", "--out", "o", "--k", "0"], "Invalid value for '--k'"),
        (["explore", "run", "--data", "d", "--out", "o", "--k", "0"], "Invalid value for '--k'"),
        (["data", "import", "csv", "a", "b"], "No such command 'csv'"),
        (["data", "import", "newsroom", "small"], "Missing argument 'DEST'"),
    ],
)
def test_a_mistyped_command_names_what_is_wrong_and_where_help_is(
    refused: Callable[..., str], arguments: list[str], message: str
) -> None:
    line = refused(*arguments)
    assert message in line
    assert "--help`)" in line


@pytest.mark.parametrize("arguments", [[], ["data"], ["data", "import"]])
def test_no_command_shows_the_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert "Usage: belfry" in printed.out + printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "pretrain",
        "train",
        "evaluate",
        "score",
        "recommend",
        "explore",
        "export",
        "demo",
        "data",
        "data import table",
        "data import mind",
        "data audit",
    ],
)
def test_every_command_has_help(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*arguments.split(), "--help"]) == 0
    printed = capsys.readouterr()
    assert "Usage: belfry" in printed.out
    assert printed.err == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the recipe r.yaml does not exist."),
        ("towers: {widht: 3}", "the recipe r.yaml cannot be used: towers.widht is not a known key."),
        ("training: {epochs: two}", "training.epochs: input should be a valid integer"),
        (b"\xff\xfe\x00\x01", "the recipe r.yaml is not a YAML file that can be read"),
        ("- a list", "must hold sections"),
    ],
)
def test_a_recipe_that_cannot_be_used(
    refused: Callable[..., str], dataset: Path, content: str | bytes | None, message: str
) -> None:
    if content is not None:
        put(Path("r.yaml"), content)
    assert message in refused("train", "r.yaml", "--data", dataset, "--out", "out")
    assert not Path("out").exists()


def break_info(folder: Path) -> None:
    (folder / "dataset.json").write_text('{"name": 1}')


def no_json(folder: Path) -> None:
    (folder / "dataset.json").write_text("{")


def no_events(folder: Path) -> None:
    (folder / "events.parquet").unlink()


def no_parquet(folder: Path) -> None:
    (folder / "items.parquet").write_text("item_id\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is not a Belfry dataset (it has no dataset.json)"),
        (break_info, "dataset.json cannot be read (name: "),
        (no_json, "dataset.json is not valid JSON"),
        (no_events, "events.parquet is missing or broken: import the dataset again."),
        (no_parquet, "items.parquet is missing or broken: import the dataset again."),
    ],
    ids=["missing", "wrong info", "no json", "no events", "no parquet"],
)
@pytest.mark.parametrize(
    "command", ["train r.yaml", "score run", "recommend run", "evaluate run", "export run --to m/x"]
)
def test_a_dataset_that_cannot_be_used(
    refused: Callable[..., str],
    dataset: Path,
    run_folder: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    message: str,
    command: str,
) -> None:
    put(Path("r.yaml"), "")
    shutil.copytree(dataset, "copy")
    damage(Path("copy"))
    out = [] if command.startswith("export") else ["--out", "out"]
    assert message in refused(*command.split(), "--data", "copy", *out)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "copy") == ["r.yaml", "run"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("recipe.yaml", None, "run is not a run (it has no recipe.yaml): make one with `belfry train`."),
        ("model.weights.h5", None, "run has no model.weights.h5: train it again."),
        ("vocabulary.json", None, "vocabulary.json does not exist"),
        ("vocabulary.json", "{", "vocabulary.json is not valid JSON"),
        ("vocabulary.json", "{}", "run cannot be read"),
        ("origin.json", "[]", "run cannot be read"),
        ("recipe.yaml", "colour: red", "colour is not a known key"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate run", "score run --data d --out o", "export run --to models/x"])
def test_a_run_that_cannot_be_used(
    refused: Callable[..., str], run_folder: Path, name: str, content: str | None, message: str, command: str
) -> None:
    (run_folder / name).unlink()
    if content is not None:
        put(run_folder / name, content)
    assert message in refused(*command.split())


def test_a_missing_run(refused: Callable[..., str]) -> None:
    assert "nowhere is not a run" in refused("evaluate", "nowhere")


def test_a_run_whose_dataset_moved_says_what_to_do(
    refused: Callable[..., str], run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = json.loads((run_folder / "origin.json").read_text())
    put(run_folder / "origin.json", json.dumps(origin | {"dataset": "/gone"}))
    assert "no longer at /gone: name one with --data." in refused("export", "run", "--to", "models/x")


def test_a_model_folder_that_is_a_file(refused: Callable[..., str], run_folder: Path) -> None:
    put(Path("models"), "mine")
    assert "models is not a folder" in refused("export", "run", "--to", "models")
    assert Path("models").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "e.csv"),
        ("", "is empty"),
        (b"\x00\x01\x02\xff", "is not a text file"),
        (b"PAR1 and no more", "is not a readable Parquet file"),
        ("who,what\nu,a\n", "has no column user_id (it has: who, what)"),
        ("user_id,item_id\n", "Not one usable event is left"),
    ],
)
def test_events_that_cannot_be_imported(
    refused: Callable[..., str], tmp_path: Path, content: str | bytes | None, message: str
) -> None:
    if content is not None:
        put(Path("e.csv"), content)
    assert message in refused("data", "import", "table", "e.csv", "out")
    assert [path.name for path in tmp_path.iterdir()] == ["e.csv"] * (content is not None)


@pytest.mark.parametrize("source", ["mind", "movielens"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_source_folder_that_is_missing_or_empty(refused: Callable[..., str], source: str, empty: bool) -> None:
    if empty:
        Path("source").mkdir()
    assert "source" in refused("data", "import", source, "source", "out")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("user_id", "--map takes ours=theirs pairs"),
        ("user_id=", "--map takes ours=theirs pairs"),
        ("=visitor", "--map takes ours=theirs pairs"),
        ("user_id=a,user_id=b", "--map names user_id twice"),
        ("reader=user_id", "there is no reader to map to"),
        ("user_id=visitor", "has no column visitor"),
    ],
)
def test_a_mapping_that_cannot_be_used(refused: Callable[..., str], mapping: str, message: str) -> None:
    put(Path("e.csv"), EVENTS)
    assert message in refused("data", "import", "table", "e.csv", "out", "--map", mapping)
    assert not Path("out").exists()


def test_an_unknown_kind(refused: Callable[..., str]) -> None:
    put(Path("e.csv"), EVENTS)
    assert "'buy' is not a kind of event" in refused("data", "import", "table", "e.csv", "out", "--kind", "buy")


def test_a_folder_of_somebody_else_is_left_alone_by_an_import(refused: Callable[..., str], tmp_path: Path) -> None:
    put(Path("e.csv"), EVENTS)
    put(Path("home/letters/one"), "dear")
    before = tree(tmp_path)
    assert "home is not empty and is not an earlier result" in refused("data", "import", "table", "e.csv", "home")
    assert "e.csv exists and is not a folder" in refused("data", "import", "table", "e.csv", "e.csv")
    assert "give the name of a new folder" in refused("data", "import", "table", "e.csv", ".")
    assert tree(tmp_path) == before


def test_a_folder_of_somebody_else_is_left_alone_by_training(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(Path("r.yaml"), "features: {text: null}\ndata: {split: {by: none}}")
    put(Path("home/letters/one"), "dear")
    before = tree(tmp_path)
    assert run(["train", "r.yaml", "--data", str(dataset), "--out", "home"]) == 2
    assert "home is not empty and is not an earlier result" in capsys.readouterr().err.splitlines()[-1]
    assert tree(tmp_path) == before


@pytest.mark.parametrize("flags", [["--no_such_flag=1"], ["--port=many"], ["--rest_api_port=8501"], ["stray"]])
def test_a_bad_flag_of_the_model_server(flags: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["model-server", *flags]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert "Traceback" not in line


def test_the_model_server_has_its_own_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["model-server", "--help"]) == 0
    assert "--model_base_path" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/disk/x"), "no space is left on the disk (/disk/x)"),
        (PermissionError(errno.EACCES, "Permission denied", "/locked/x"), "access is denied (/locked/x)"),
        (OSError(errno.EROFS, "Read-only file system"), "access is denied: check the permissions"),
        (ModuleNotFoundError("no", name="tensorflow.python"), "run `pip install 'belfry[train]'`"),
        (ModuleNotFoundError("no", name="duckdb"), "run `pip install 'belfry[data]'`"),
        (BadInput("one thing\nafter   another"), "belfry: one thing after another"),
    ],
)
def test_what_a_machine_lacks_is_told_in_a_sentence(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    monkeypatch.setattr(table_source, "import_table", failing(error))
    assert message in refused("data", "import", "table", "e.csv", "out")


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*arguments: Any, **named: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("error", [ZeroDivisionError("ours"), ModuleNotFoundError("no", name="pipelines.gone")])
def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(table_source, "import_table", failing(error))
    with pytest.raises(type(error)):
        run(["data", "import", "table", "e.csv", "out"])


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(table_source, "import_table", failing(KeyboardInterrupt()))
    assert run(["data", "import", "table", "e.csv", "out"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_an_import_is_told_as_lines_or_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    put(Path("e.csv"), EVENTS)
    assert run(["data", "import", "table", "e.csv", "one"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "dataset written to one"
    assert (
        run(["data", "import", "table", "e.csv", "two", "--json", "--map", "user_id=user_id, item_id = item_id"]) == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert result["dataset"] == "two"
    assert result["report"]["events (e.csv)"]["kept"] == 2
    assert Dataset.open("two").info.name == "two"


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments", ["--help", "train --help", "data import table --help", "train missing --data d --out o"]
)
def test_help_imports_nothing_heavy(arguments: str) -> None:
    code = (
        "import sys; from pipelines.cli.app import run; code = run(sys.argv[2:]);"
        "print('heavy:', [name for name in sys.argv[1].split() if name in sys.modules]); sys.exit(code)"
    )
    done = python(code, " ".join(HEAVY), *arguments.split())
    assert done.returncode == (2 if "missing" in arguments else 0)
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_the_process_ends_with_the_code_and_one_line() -> None:
    done = python("from pipelines.cli import main; main()", "evaluate", "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "belfry: nowhere is not a run (it has no recipe.yaml): make one with `belfry train`.\n"


def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    run(["evaluate", "nowhere"])
    assert capsys.readouterr().err.startswith("\033[31mbelfry:\033[0m nowhere")
    monkeypatch.setenv("NO_COLOR", "1")
    run(["evaluate", "nowhere"])
    assert capsys.readouterr().err.startswith("belfry: nowhere")


def test_every_package_outside_of_the_base_has_its_extra_named() -> None:
    named = {name for modules in cli._EXTRAS.values() for name in modules}
    assert set(HEAVY) - {"numpy"} <= named


def test_an_unknown_size_of_the_newsroom(refused: Callable[..., str]) -> None:
    assert "nosuchsize" in refused("data", "import", "newsroom", "nosuchsize", "out")
    assert not Path("out").exists()
