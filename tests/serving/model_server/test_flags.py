from __future__ import annotations

import pytest

from serving.model_server.flags import read_flags
from serving.model_server.options import OptionError, Options


def read(*argv: str, **environ: str) -> Options:
    options = read_flags(argv, environ)
    assert isinstance(options, Options)
    return options


def test_both_spellings_of_a_value() -> None:
    assert read("--model_base_path=/m", "--port=1", "--rest_api_port=2") == read(
        "--model_base_path", "/m", "--port", "1", "--rest_api_port", "2"
    )


def test_defaults_are_tensorflow_servings() -> None:
    options = read("--model_base_path=/m")
    assert (options.grpc_port, options.rest_port, options.model_name) == (8500, None, "default")
    assert (options.rest_timeout_ms, options.poll_wait_seconds, options.max_load_retries) == (30_000, 1, 5)
    assert (options.load_retry_interval_seconds, options.saved_model_tags) == (60, ("serve",))


def test_a_config_file_instead_of_a_base_path() -> None:
    options = read("--model_config_file=/c", "--model_config_file_poll_wait_seconds=7", "--num_load_threads=2")
    assert (options.model_config_file, options.model_config_poll_wait_seconds) == ("/c", 7)
    assert options.num_load_threads == 2


def test_threads_and_channel_arguments() -> None:
    options = read("--model_base_path=/m", "--grpc_channel_arguments=a.b=1,c=d=e", "--grpc_max_threads=3")
    assert (options.grpc_channel_arguments, options.grpc_max_threads) == ((("a.b", 1), ("c", "d=e")), 3)
    options = read("--model_base_path=/m", "--tensorflow_session_parallelism=2", "--rest_api_num_threads=5")
    assert (options.intra_op_parallelism, options.inter_op_parallelism, options.rest_threads) == (2, 2, 5)


def test_port_zero_is_off() -> None:
    options = read("--model_base_path=/m", "--port=0", "--rest_api_port=8501")
    assert (options.grpc_port, options.rest_port) == (None, 8501)


@pytest.mark.parametrize("flag", ["--allow_public_bind", "--allow_public_bind=true", "--allow_public_bind=1"])
def test_booleans_bare_or_with_a_value(flag: str) -> None:
    assert read("--model_base_path=/m", "--bind_address=0.0.0.0", flag).bind_address == "0.0.0.0"


def test_the_containers_environment() -> None:
    options = read(MODEL_NAME="feed", MODEL_BASE_PATH="/models")
    assert (options.model_name, str(options.model_base_path)) == ("feed", "/models/feed")
    options = read("--model_name=a", "--model_base_path=/b", MODEL_NAME="feed", MODEL_BASE_PATH="/models")
    assert (options.model_name, options.model_base_path) == ("a", "/b")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--rest_port=1"], "did you mean --rest_api_port?"),
        (["--rest-api-port=1"], "did you mean --rest_api_port?"),
        (["--nonsense"], "--nonsense is not a flag"),
        (["stray"], "'stray' is not a flag"),
        (["--use_alts_credentials"], "does not have: ALTS works inside"),
        (["--xla_cpu_compilation_enabled=true"], "does not have: models run as they were exported"),
        (["--grpc_channel_arguments=a"], "--grpc_channel_arguments: is a list of key=value, not 'a'"),
        (["--tensorflow_session_parallelism=1", "--tensorflow_intra_op_parallelism=1"], "sets both others"),
        (["--ssl_config_file=/x", "--port=0", "--rest_api_port=1"], "ssl_config_file needs the gRPC port"),
        (["--monitoring_config_file=/x"], "monitoring_config_file needs the REST port"),
        (["--batching_parameters_file=/x"], "without enable_batching"),
        (["--port=abc"], "--port: needs a whole number from 0 to 65535, not 'abc'"),
        (["--port=70000"], "--port: needs a whole number"),
        (["--port"], "--port: expected one argument"),
        (["--file_system_poll_wait_seconds=-1"], "--file_system_poll_wait_seconds: needs a whole number"),
        (["--allow_public_bind=maybe"], "is true or false"),
        (["--model_name=a/b"], "model_name must be a word"),
        (["--model_base_path=gs://bucket/m"], "is not a local folder"),
        (["--model_base_path="], "--model_base_path is missing"),
        (["--saved_model_tags="], "saved_model_tags is empty"),
        (["--port=0"], "both 0"),
        (["--rest_api_port=8500"], "cannot share port 8500"),
        (["--bind_address=0.0.0.0"], "can be reached from other machines"),
        (["--bind_address=example.org"], "can be reached from other machines"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(argv: list[str], words: str) -> None:
    with pytest.raises(OptionError) as refusal:
        read_flags(["--model_base_path=/m", *argv], {})
    sentence = str(refusal.value)
    assert words in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")


def test_a_missing_base_path_is_refused() -> None:
    with pytest.raises(OptionError, match="--model_base_path is missing"):
        read_flags([], {})


def test_help_names_every_flag_and_version_needs_no_model() -> None:
    text = read_flags(["--help"], {})
    assert isinstance(text, str)
    for flag in ("--port", "--rest_api_port", "--model_base_path", "--bind_address", "--version"):
        assert flag in text
    assert "TensorFlow: 2." in str(read_flags(["--version"], {}))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_leave(address: str) -> None:
    assert Options(model_base_path="/m", bind_address=address).bind_address == address
