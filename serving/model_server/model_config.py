"""Which models to serve and which of their versions: the ModelServerConfig of a file or of a reload request."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from serving.model_server.errors import Code, ServingError, abridge, invalid

if TYPE_CHECKING:
    from tensorflow_serving.config import model_server_config_pb2 as config_pb2

_PLATFORM = "tensorflow"


@dataclass(frozen=True)
class VersionPolicy:
    """The versions on disk that should serve: those of `specific`, else the newest `latest`, else (None) all."""

    latest: int | None = 1
    specific: frozenset[int] | None = None

    def choose(self, found: Collection[int], available: Callable[[int], bool]) -> set[int]:
        """Ask for versions, newest first, until enough are available. One that fails is made up for by an older one."""
        kept: set[int] = set()
        for number in sorted(found, reverse=True):
            if self.specific is not None and number not in self.specific:
                continue
            if self.specific is None and self.latest is not None and len(kept) >= self.latest:
                break
            if available(number):
                kept.add(number)
        return kept


@dataclass(frozen=True)
class ModelConfig:
    """One model to serve."""

    name: str
    base_path: Path
    policy: VersionPolicy = VersionPolicy()
    labels: dict[str, int] = field(default_factory=dict)


def read_model_configs(path: Path) -> list[ModelConfig]:
    """Read a text-format ModelServerConfig.

    Raises:
        ServingError: INVALID_ARGUMENT, the file cannot be read or does not hold a list of models.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    try:
        config = text_format.Parse(path.read_text("utf-8"), ModelServerConfig())
    except OSError as error:
        raise invalid(f"Cannot read {path}: {error.strerror}.") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise invalid(f"Invalid protobuf file: '{path}': {abridge(str(error))}") from None
    return model_configs(config)


def model_configs(config: config_pb2.ModelServerConfig) -> list[ModelConfig]:
    """The models of a ModelServerConfig.

    Raises:
        ServingError: INVALID_ARGUMENT, no list, a name twice or none, a path that is not absolute or not local, a
            platform other than TensorFlow; UNIMPLEMENTED, a custom model config.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise ServingError(Code.UNIMPLEMENTED, "custom_model_config is not supported: give a model_config_list.")
    if config.WhichOneof("config") is None:
        raise invalid("The model server config has no model_config_list.")
    configs: dict[str, ModelConfig] = {}
    for one in config.model_config_list.config:
        if one.name in configs:
            raise invalid(f"Illegal to list model {one.name} multiple times in config list")
        configs[one.name] = _model_config(one)
    return list(configs.values())


def _model_config(one: config_pb2.ModelConfig) -> ModelConfig:
    if not one.name or any(letter in one.name for letter in "/:"):
        raise invalid(f"A model's name must be a word without '/' and ':', not {one.name!r}.")
    if one.model_type and one.model_platform:
        raise invalid(f"Model {one.name}: illegal setting both model_type (deprecated) and model_platform.")
    platform = _PLATFORM if one.model_type == 1 else one.model_platform
    if not platform and not one.model_type:
        raise invalid(f'Model {one.name}: model_platform is missing: give model_platform: "{_PLATFORM}".')
    if platform != _PLATFORM:
        raise invalid(f'Model {one.name}: only model_platform: "{_PLATFORM}" is served.')
    if one.HasField("logging_config"):
        raise invalid(f"Model {one.name}: logging_config is not supported: use --request_log_file.")
    if "://" in one.base_path or not Path(one.base_path).is_absolute():
        raise invalid(
            f"Expected model {one.name} to have an absolute local path; got base_path()={abridge(one.base_path)}"
        )
    policy = VersionPolicy()
    choice = one.model_version_policy.WhichOneof("policy_choice")
    if choice == "latest":
        policy = VersionPolicy(latest=max(1, one.model_version_policy.latest.num_versions))
    elif choice == "all":
        policy = VersionPolicy(latest=None)
    elif choice == "specific":
        policy = VersionPolicy(specific=frozenset(one.model_version_policy.specific.versions))
        if not policy.specific:
            raise invalid(f"Model {one.name}: the policy `specific` lists no versions.")
    return ModelConfig(one.name, Path(one.base_path), policy, dict(one.version_labels))
