from __future__ import annotations

from pathlib import Path

import pytest

from serving.model_server.errors import ServingError
from serving.model_server.text_config import read_text_config


def test_every_field_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(
        "max_batch_size { value: 128 } batch_timeout_micros { value: 0 } max_enqueued_batches { value: 7 }\n"
        'num_batch_threads { value: 2 } thread_pool_name { value: "batch" } allowed_batch_sizes: [1, 128]\n'
        "pad_variable_length_inputs: true"
    )
    read = read_text_config(file, "BatchingParameters")
    assert (read.max_batch_size.value, read.max_enqueued_batches.value, read.num_batch_threads.value) == (128, 7, 2)
    assert (list(read.allowed_batch_sizes), read.pad_variable_length_inputs) == ([1, 128], True)
    assert read.HasField("batch_timeout_micros")
    assert read.thread_pool_name.value == "batch"
    file.write_text('server_key: "k" server_cert: "c" custom_ca: "a" client_verify: true')
    read = read_text_config(file, "SSLConfig")
    assert (read.server_key, read.server_cert, read.custom_ca, read.client_verify) == ("k", "c", "a", True)
    file.write_text('prometheus_config { enable: true, path: "/metrics" }')
    assert read_text_config(file, "MonitoringConfig").prometheus_config.path == "/metrics"


@pytest.mark.parametrize("text", ["nonsense: 1", "prometheus_config { enable: 7 }", "prometheus_config {", "\xff"])
def test_what_is_no_such_message_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(text, "latin-1")
    with pytest.raises(ServingError, match="Invalid protobuf file"):
        read_text_config(tmp_path / "file", "MonitoringConfig")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="Cannot read"):
        read_text_config(tmp_path / "absent", "SSLConfig")
