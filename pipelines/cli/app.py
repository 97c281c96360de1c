"""The root of the command line: the commands, and how a failure is told."""

from __future__ import annotations

import errno
import os
import sys

import typer

from pipelines.cli import (
    data,
    edge,
    events,
    experiment,
    keys,
    model,
    monitor,
    off_policy,
    quantise,
    registry,
    retrain,
    serve,
    simulate,
    training,
)
from pipelines.errors import BadInput, Busy, Stopped

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a publisher's click logs to a personalised feed.",
)
app.add_typer(data.app, name="data")
# In the order in which one comes to them.
for command in (
    *(model.demo, training.pretrain, training.train, training.tune, training.adapt, training.ablate),
    *(model.evaluate, model.score, model.recommend, model.explore, model.embed, model.export),
):
    app.command()(command)
# TF Serving's own flags are not Typer's business: they pass through as they are, --help included.
app.command(
    "model-server",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)(model.model_server)
app.command()(quantise.quantise)
edge.register(app)
serve.register(app)
app.add_typer(events.app, name="events")
app.add_typer(keys.app, name="keys")
app.command()(retrain.retrain)
registry.register(app)
experiment.register(app)
off_policy.register(app)
monitor.register(app)
simulate.register(app)

# The extra that brings a module; what several extras bring is in the smallest.
_EXTRAS = {
    "data": ("duckdb", "ibis", "pandas", "PIL", "pyarrow", "scipy"),
    "edge": ("ai_edge_litert", "flatbuffers", "httptools", "uvicorn", "uvloop"),
    "gateway": (
        "alembic",
        "fastapi",
        "httpx",
        "prometheus_client",
        "psycopg",
        "pydantic_settings",
        "redis",
        "sqlalchemy",
    ),
    "mlflow": ("mlflow",),
    "quantise": ("onnx", "onnxruntime", "tf2onnx"),
    "spark": ("py4j", "pyspark"),
    "serve": ("grpc", "orjson", "tensorflow_serving"),
    "train": (
        *("imblearn", "keras", "keras_hub", "keras_tuner", "safetensors", "sklearn", "tf_keras"),
        *("tensorflow", "tensorflow_recommenders", "tensorflow_text"),
    ),
}


def main() -> None:
    """Run the command line. Bad input ends in one sentence on standard error and exit code 2."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        result = app(args=arguments, prog_name="belfry", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        return _fail("stopped.", 130)
    except KeyboardInterrupt:
        return _fail("stopped; nothing half-written is left behind.", 130)
    except Stopped as error:
        return _fail(str(error), 1)
    except Busy as error:
        return _fail(str(error), 3)
    except BrokenPipeError:
        # Whoever read standard output has enough, as `| head` does; Python must not try to write the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        # No command at all: the help has been shown instead.
        return _fail(sentence, 2) if sentence else 2


def _sentence(error: Exception) -> str | None:
    """What to tell the user, or None for a fault of ours, which keeps its traceback."""
    if isinstance(error, BadInput):
        return str(error)
    # Typer carries its own copy of click; its usage errors are known by what they offer.
    show = getattr(error, "format_message", None)
    if callable(show):
        context = getattr(error, "ctx", None)
        text = show()
        return f"{text} (see `{context.command_path} --help`)" if text and context is not None else text
    if isinstance(error, ModuleNotFoundError) and error.name:
        for extra, modules in _EXTRAS.items():
            if error.name.split(".")[0] in modules:
                return f"this command needs what is not installed ({error.name}): run `pip install 'belfry[{extra}]'`."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space is left on the disk{_of(error)}: free some and run the command again; nothing was changed."
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"access is denied{_of(error)}: check the permissions or give another path; nothing was changed."
    if isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError):
        return f"a file is wanted where a folder is, or the reverse{_of(error)}: check the path; nothing was changed."
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"a name is too long for this disk{_of(error)}: give a shorter one; nothing was changed."
    return None


def _of(error: OSError) -> str:
    return f" ({error.filename})" if error.filename else ""


def _fail(sentence: str, code: int) -> int:
    text = " ".join(sentence.split())
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    print(f"\033[31mbelfry:\033[0m {text}" if colour else f"belfry: {text}", file=sys.stderr)
    return code
