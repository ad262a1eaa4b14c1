"""`tracking:` of a spec: where a search shows its runs, besides its own folder.

It names places and never holds a key: keys stay in the environment, or where the tracker's own login put them.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from cluster.credentials import credential_in, strings_in
from trainables.config import Frozen
from trainables.errors import ConfigError, did_you_mean

SQLITE = "sqlite:///"
SECRET = ("key", "token", "password", "secret", "credential")
"""Words in the name of an option that would hold a key."""


class WandbConfig(Frozen):
    """Weights & Biases: one run per trial, grouped by experiment, and a summary run."""

    kind: Literal["wandb"] = "wandb"
    mode: Literal["auto", "online", "offline"] = Field(
        "auto", description="auto: online if W&B's key is at hand, else offline; WANDB_MODE says otherwise"
    )
    project: str = Field("tune-app", pattern=r"^[^/\\#?%:]{1,128}$", description="the W&B project that holds the runs")
    entity: str = Field("", pattern=r"^[A-Za-z0-9._-]*$", description="user or team; empty: the account's own")
    upload: bool = Field(False, description="upload packed files; false: only say where they are")


class TensorBoardConfig(Frozen):
    """Event files for TensorBoard: one folder per trial."""

    kind: Literal["tensorboard"] = "tensorboard"
    folder: str = Field("", description="empty: tracking/tensorboard in the experiment's folder")

    @field_validator("folder")
    @classmethod
    def _of_this_machine(cls, folder: str) -> str:
        if "://" in folder:
            raise ValueError(f"folder is a folder of this machine, but got {folder!r}")
        return folder


class MlflowConfig(Frozen):
    """MLflow: an experiment of the same name, one run per trial."""

    kind: Literal["mlflow"] = "mlflow"
    uri: str = Field("", description="server or store; empty: MLFLOW_TRACKING_URI, else a file of the experiment's")


AnyTracker = WandbConfig | TensorBoardConfig | MlflowConfig
TrackerConfig = Annotated[AnyTracker, Field(discriminator="kind")]
KINDS: dict[str, type[AnyTracker]] = {"wandb": WandbConfig, "tensorboard": TensorBoardConfig, "mlflow": MlflowConfig}
KEYS_GO_TO = {
    "wandb": "run `wandb login` or set WANDB_API_KEY",
    "tensorboard": "TensorBoard needs none",
    "mlflow": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
}


def store_at_root(uri: str) -> str:
    """Returns the address of an MLflow store that means the same file in every working directory."""
    path = uri.removeprefix(SQLITE)
    return uri if path in ("", uri) or path.startswith((":", "file:")) else f"{SQLITE}{Path(path).resolve()}"


def written_out(value: Any) -> Any:
    """Writes out `tracking: wandb`, a mapping, or a list of both, as a list of mappings with their kind.

    What looks like a key is refused before anything could repeat it.

    Raises:
        ConfigError: an unknown tracker or option, one that is named twice, or a key.
    """
    if value is None:
        return []
    items = [value] if isinstance(value, str | dict | Frozen) else value
    if not isinstance(items, list | tuple):
        return value
    found = [{"kind": item} if isinstance(item, str) else item for item in items]
    kinds = [_checked(item) for item in found if isinstance(item, dict)]
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice is not None:
        raise ConfigError(f"tracking: {twice} is named twice: keep one of the two.")
    return found


def _checked(item: dict[Any, Any]) -> str:
    """Returns the kind of a mapping, once its options are known and hold no key."""
    kind = known_kind(item.get("kind"))
    options = list(KINDS[kind].model_fields)
    for name in item:
        if name not in options and any(word in str(name).lower() for word in SECRET):
            raise ConfigError(f"tracking.{kind}: a spec holds no keys: leave {name} out; {KEYS_GO_TO[kind]}.")
        if name not in options:
            hint = did_you_mean(str(name), options, otherwise=f"known: {', '.join(options)}.")
            raise ConfigError(f"tracking.{kind}: unknown option {name!r}; {hint}")
    for place, text in strings_in(item):
        found = credential_in(text)
        if found is not None:
            raise ConfigError(f"tracking.{kind}.{place} holds {found}: a spec holds no keys; {KEYS_GO_TO[kind]}.")
    return kind


def known_kind(kind: Any) -> str:
    """Returns the name of a tracker, or raises ConfigError where there is none of it."""
    if not isinstance(kind, str) or kind not in KINDS:
        hint = did_you_mean(str(kind), KINDS, before="; ")
        raise ConfigError(f"tracking: unknown tracker {kind!r}; known: {', '.join(KINDS)}{hint}")
    return str(kind)
