"""What is deployed is what the code takes: by the official protobufs, Kubernetes' schemas, and the settings' names."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

import serving
from serving.gateway.metrics import Metrics
from serving.gateway.settings import Settings
from serving.model_server.flags import read_flags
from serving.model_server.options import Options

DEPLOY = Path(serving.__file__).parent / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
MANIFESTS = [
    (path.name, each)
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for each in yaml.safe_load_all(path.read_text())
]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, each in MANIFESTS:
        if "template" in each.get("spec", {}):
            yield name, each["spec"]["template"]["spec"]


def test_the_models_are_a_config_of_tensorflow_serving() -> None:
    config = text_format.Parse((DEPLOY / "model_server" / "models.config").read_text(), ModelServerConfig())
    (model,) = config.model_config_list.config
    assert model.base_path == f"/models/{model.name}"
    assert model.model_version_policy.latest.num_versions == 2
    assert COMPOSE["x-gateway"]["environment"]["BELFRY_MODEL"] == model.name


def test_our_model_server_takes_the_same_flags_and_files() -> None:
    command = COMPOSE["services"]["model-server"]["command"]
    flags = [flag.replace("/config/", f"{DEPLOY}/model_server/") for flag in command]
    flags += ["--enable_batching", f"--batching_parameters_file={DEPLOY}/model_server/batching.config"]
    assert isinstance(read_flags(flags), Options)
    (container,) = next(spec for name, spec in pods() if name == "model-server.yaml")["containers"]
    assert container["args"] == command


@pytest.mark.parametrize(("name", "manifest"), MANIFESTS, ids=[f"{name}-{each['kind']}" for name, each in MANIFESTS])
def test_kubernetes_takes_every_manifest(name: str, manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_every_pod_has_limits_and_no_token() -> None:
    for name, spec in pods():
        assert spec["automountServiceAccountToken"] is False, name
        for container in spec["containers"]:
            assert "memory" in container["resources"]["limits"], name


def test_the_kustomization_names_what_is_there() -> None:
    found = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
    assert sorted(found["resources"]) == sorted(f"kubernetes/{path.name}" for path in (DEPLOY / "kubernetes").iterdir())
    for each in found["configMapGenerator"]:
        assert all((DEPLOY / file).is_file() for file in each["files"])


def test_settings_are_those_of_the_gateway() -> None:
    known = {f"BELFRY_{name.upper()}" for name in Settings.model_fields}
    assert set(COMPOSE["x-gateway"]["environment"]) <= known
    for name, spec in pods():
        for container in spec["containers"]:
            assert {each["name"] for each in container.get("env", []) if each["name"].startswith("BELFRY_")} <= known, (
                name
            )


def test_images_are_pinned_and_files_are_there() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["image"] == "belfry-gateway" or re.search(r":v?\d", service["image"]), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./") and "secrets" not in source:
                assert (DEPLOY / source).exists(), volume


def test_charts_and_alerts_ask_for_what_is_counted() -> None:
    metrics = Metrics()
    counted = {
        sample
        for family in metrics.registry.collect()
        for sample in (family.name, f"{family.name}_total", f"{family.name}_bucket")
    }
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "belfry.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    asked += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    named = {name for expression in asked for name in re.findall(r"belfry_\w+", expression)}
    assert len(named) > 10
    assert named <= counted


def test_a_gateway_starts_from_the_environment_once_it_has_the_first_key(tmp_path: Path) -> None:
    (container,) = next(spec for name, spec in pods() if name == "first-key.yaml")["containers"]
    environment = {name: str(value) for name, value in COMPOSE["x-gateway"]["environment"].items()}
    environment |= {"BELFRY_STORE_URL": str(tmp_path), "BELFRY_MODEL_SERVER": "grpc://127.0.0.1:1", "BELFRY_PORT": "0"}
    environment.pop("BELFRY_REDIS_URL")
    command = [sys.executable, "-c", "from pipelines.cli import main; main()"]
    settings: dict[str, Any] = {"env": os.environ | environment, "text": True, "stdout": subprocess.PIPE}
    refused = subprocess.run([*command, "serve"], check=False, stderr=subprocess.PIPE, **settings)
    assert refused.returncode == 2
    assert "the store has no keys" in refused.stderr
    key = subprocess.run([*command, *container["args"]], check=True, **settings).stdout.split()[-1]
    with subprocess.Popen([*command, "serve", "--json"], **settings) as gateway:
        assert gateway.stdout is not None
        told = ""
        while not told.rstrip().endswith("}"):
            line = gateway.stdout.readline()
            assert line, "the gateway did not start"
            told += line
        url = json.loads(told)["url"].replace("0.0.0.0", "127.0.0.1")
        ask = {"user_id": "u1"}
        assert httpx.post(f"{url}/v1/recommendations", json=ask).status_code == 401
        answer = httpx.post(f"{url}/v1/recommendations", json=ask, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200
        gateway.terminate()
    assert gateway.returncode == 0
