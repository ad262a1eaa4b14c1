"""ExperimentSpec: what one YAML file says, checked; and the folder that an experiment lives in."""

import difflib
import io
import re
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.tokens import (
    AliasToken,
    BlockEndToken,
    BlockMappingStartToken,
    BlockSequenceStartToken,
    FlowMappingEndToken,
    FlowMappingStartToken,
    FlowSequenceEndToken,
    FlowSequenceStartToken,
)

from search_spaces.samplers import SAMPLERS
from search_spaces.space import SearchSpace
from trainables.config import BaselineImport, Frozen, TrialConfig, file_sha256
from trainables.errors import ConfigError, CorruptFile, StorageUnavailable
from trainables.results import METRICS
from trainables.storage import create_once, replace

MAX_SPEC_BYTES = 1_000_000
MAX_TRIALS = 1_000_000
MAX_DEPTH = 50
OPENING = (FlowSequenceStartToken, FlowMappingStartToken, BlockSequenceStartToken, BlockMappingStartToken)
CLOSING = (FlowSequenceEndToken, FlowMappingEndToken, BlockEndToken)
UNION_TAGS = {"range", "choices", "train", "import", "ptq", "qat", "int", "float", "str"}
"""What pydantic puts into the place of a problem to tell alternatives apart."""
Direction = Literal["maximize", "minimize"]


class Constraint(Frozen):
    """A bound on a measured column, written as "accuracy >= 0.93"."""

    metric: str
    sense: Literal["<=", ">="]
    bound: float

    def violation(self, value: float) -> float:
        """How far a value is outside; zero or less means feasible."""
        return value - self.bound if self.sense == "<=" else self.bound - value

    def __str__(self) -> str:
        short = f"{self.bound:g}"
        return f"{self.metric} {self.sense} {short if float(short) == self.bound else self.bound}"

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, text: Any) -> Any:
        if not isinstance(text, str):
            return text
        match = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*([-+.\deE]+)\s*", text)
        if match is None:
            raise ValueError(f'{text!r} is no bound; write it like "accuracy >= 0.93"')
        return {"metric": match[1], "sense": match[2], "bound": match[3]}

    @field_validator("metric")
    @classmethod
    def _known(cls, name: str) -> str:
        return _metric(name)


class SamplerConfig(Frozen):
    """Which sampler proposes points."""

    name: str = "tpe"
    seed: int = Field(default=0, ge=0, lt=2**31)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return SAMPLERS.check(name)


class Budget(Frozen):
    """When a search is done."""

    trials: int = Field(ge=1, le=MAX_TRIALS, description="distinct configurations with a record, of any state")


class Resources(Frozen):
    """What one trial holds while it runs."""

    cpu: float = Field(default=1, gt=0, le=4096)
    gpu: float = Field(default=0, ge=0, le=64, description="may be a fraction: 0.25 puts four trials on a GPU")


class ExperimentSpec(Frozen):
    """One experiment: the base configuration, what is searched, and how far."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    storage: str = Field(default="runs", min_length=1, description="folder that holds the experiment's folder")
    base: TrialConfig
    space: SearchSpace
    objectives: dict[str, Direction] = Field(
        default={"accuracy": "maximize", "size_bytes": "minimize"}, min_length=1, max_length=3
    )
    constraints: tuple[Constraint, ...] = ()
    sampler: SamplerConfig = SamplerConfig()
    budget: Budget
    resources: Resources = Resources()
    max_concurrent_trials: int | None = Field(default=None, ge=1, le=10_000, description="null: what the cluster fits")
    worker_retries: int = Field(default=3, ge=0, le=100, description="new starts of a trial whose worker was lost")

    @field_validator("objectives")
    @classmethod
    def _measured(cls, objectives: dict[str, Direction]) -> dict[str, Direction]:
        return {_metric(name): direction for name, direction in objectives.items()}

    @property
    def folder(self) -> Path:
        """Where the experiment lives."""
        return Path(self.storage) / self.name


def _metric(name: str) -> str:
    if name not in METRICS:
        close = difflib.get_close_matches(name, METRICS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown metric {name!r}; known: {', '.join(METRICS)}{hint}")
    return name


def load_spec(path: Path) -> ExperimentSpec:
    """Reads and checks a spec file; nothing is written. Relative paths in it start at the working directory.

    Raises:
        ConfigError: one line with the file, the key, the value, the rule and a way out.
    """
    return _resolve(parse_spec(_read(path), source=str(path)))


def parse_spec(text: str, *, source: str) -> ExperimentSpec:
    """A spec from YAML text; `source` names it in errors.

    Raises:
        ConfigError: as in `load_spec`.
    """
    content = _parse_yaml(text, source)
    try:
        spec = ExperimentSpec.model_validate(content)
    except ValidationError as err:
        raise ConfigError(f"{source}: {explain(err, ExperimentSpec)}") from err
    except ConfigError as err:
        raise ConfigError(f"{source}: {err}") from err
    try:
        spec.space.check(spec.base)
    except ConfigError as err:
        raise ConfigError(f"{source}: {err}") from err
    return spec


def dump_spec(spec: ExperimentSpec) -> str:
    """The resolved spec as YAML; `parse_spec` inverts it."""
    content = spec.model_dump(mode="json")
    content["constraints"] = [str(c) for c in spec.constraints]
    stream = io.StringIO()
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(content, stream)
    return stream.getvalue()


def _read(path: Path) -> str:
    try:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder: give the path of a spec file, such as examples/demo.yaml.")
        if path.stat().st_size > MAX_SPEC_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size:,} bytes; a spec has at most {MAX_SPEC_BYTES:,}.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path} is not UTF-8 text (byte {err.start}): save it as UTF-8.") from err
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) else err
        raise ConfigError(f"cannot read {path}: {reason}. Give the path of a spec file.") from err


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    yaml = YAML(typ="safe", pure=True)
    try:
        depth = 0
        for token in yaml.scan(text):  # lazily: the scanner's time grows with the square of the depth
            if isinstance(token, AliasToken):
                raise ConfigError(f"{source}: YAML aliases (*name) are not read: write the values out.")
            depth += isinstance(token, OPENING) - isinstance(token, CLOSING)
            if depth > MAX_DEPTH:
                raise ConfigError(f"{source}: nested deeper than {MAX_DEPTH} levels: no spec is.")
        content = yaml.load(text)
    except DuplicateKeyError as err:
        line = err.problem_mark.line + 1 if err.problem_mark else "?"
        raise ConfigError(f"{source}: line {line}: {err.problem}; keep one of the two.") from err
    except YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(err, "problem", None) or str(err).splitlines()[0]
        raise ConfigError(f"{source}: {where}not readable as YAML: {problem}.") from err
    except (ValueError, LookupError, RecursionError) as err:
        # ruamel's constructors let these pass, e.g. for `!!int ""` and `!!bool x`.
        raise ConfigError(f"{source}: not readable as YAML: {' '.join(str(err).split())}.") from err
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise ConfigError(f"{source}: a spec is a mapping of keys, but the file holds {found}; see examples/demo.yaml.")
    return content


def _resolve(spec: ExperimentSpec) -> ExperimentSpec:
    """Makes paths absolute (workers may run elsewhere) and fills in the digest of an imported checkpoint."""
    base = spec.base
    if base.data.root is not None:
        data = base.data.model_copy(update={"root": _absolute(base.data.root)})
        base = base.model_copy(update={"data": data})
    if isinstance(base.baseline, BaselineImport):
        if not base.baseline.checkpoint:
            raise ConfigError("base.baseline.checkpoint is missing: give the path of a checkpoint file.")
        file = _absolute(base.baseline.checkpoint)
        known = base.baseline.model_copy(update={"checkpoint": file, "sha256": file_sha256(Path(file))})
        base = base.model_copy(update={"baseline": known})
    return spec.model_copy(update={"base": base, "storage": _absolute(spec.storage)})


def _absolute(path: str) -> str:
    try:
        return str(Path(path).expanduser().resolve())
    except (OSError, ValueError, RuntimeError) as err:
        raise ConfigError(f"{path!r} is no usable path: {err}. Give the path of a file or folder.") from err


def explain(err: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a validation error in one line, with the nearest name for an unknown key."""
    problem = err.errors()[0]
    places = [str(p) for p in problem["loc"] if p not in UNION_TAGS]
    where = ".".join(places) or "spec"
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, places[:-1])
        close = difflib.get_close_matches(places[-1], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}."
        return f"unknown key {where!r}; {hint}"
    if problem["type"] == "missing":
        return f"{where} is missing: add it."
    if problem["type"] in {"union_tag_not_found", "union_tag_invalid"}:
        expected = problem["ctx"].get("expected_tags", "'train', 'import'; 'ptq', 'qat'")
        return f"{where}.kind must be one of {expected}."
    message = str(problem["msg"]).removeprefix("Value error, ")
    value = repr(problem["input"])
    shown = f" (got {value[:60]})" if len(value) <= 60 and value not in message else ""
    return f"{where}: {message}{shown}."


def _fields_at(model: type[BaseModel], places: list[str]) -> list[str]:
    """The field names of the model, or of the union of models, found by walking `places` down."""
    models: list[type[BaseModel]] = [model]
    for place in places:
        annotations = [m.model_fields[place].annotation for m in models if place in m.model_fields]
        models = [found for a in annotations for found in _models_in(a)]
    return list(dict.fromkeys(name for m in models for name in m.model_fields))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


class ExperimentFolder:
    """The files of one experiment; knows their names and nothing of their content."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec_file = path / "experiment.yaml"
        self.baseline_file = path / "baseline" / "baseline.json"
        self.in_flight_file = path / "in_flight.json"
        self.lease = path / "lease"
        self.stages = path / "stages"
        self.trials = path / "trials"
        self.artifacts = path / "artifacts"
        self.trials_table = path / "trials.parquet"
        self.frontier_table = path / "frontier.parquet"

    @staticmethod
    def existing(path: Path) -> "ExperimentFolder":
        """An experiment that is there.

        Raises:
            ConfigError: the path holds no experiment.
        """
        folder = ExperimentFolder(path)
        try:
            if folder.spec_file.is_file():
                return folder
        except (OSError, ValueError) as err:
            raise ConfigError(f"cannot look into {str(path)!r}: {err}. Give the folder of an experiment.") from err
        near = [p.parent.name for p in sorted(path.glob("*/experiment.yaml"))] if path.is_dir() else []
        hint = f"it holds experiments: {', '.join(near[:8])}" if near else "give the folder that `tune-app run` printed"
        raise ConfigError(f"{path} is no experiment (it has no experiment.yaml): {hint}.")

    def read_spec(self) -> ExperimentSpec:
        """The stored spec.

        Raises:
            CorruptFile: the file is not what was written.
        """
        try:
            return parse_spec(_read(self.spec_file), source=str(self.spec_file))
        except ConfigError as err:
            raise CorruptFile(f"stored spec: {err}") from err

    def claim(self, spec: ExperimentSpec) -> None:
        """Writes the spec of a new experiment, or compares it with the stored one and updates what may change.

        Raises:
            ConfigError: a field that decides what the records mean differs.
            StorageUnavailable: the folder cannot be written.
        """
        text = dump_spec(spec).encode()
        if create_once(self.spec_file, text):
            return
        stored = self.read_spec()
        difference = _first_difference(stored.base.identity(), spec.base.identity(), "base")
        if difference:
            raise ConfigError(
                f"{self.path} holds an experiment with another base: {difference}. "
                "Its records would mean something else: give this spec another name."
            )
        if stored != spec:
            replace(self.spec_file, text)

    def probe(self) -> None:
        """Proves that the folder can be written.

        Raises:
            StorageUnavailable: it cannot.
        """
        probe = self.path / ".probe"
        replace(probe, b"ok\n")
        try:
            probe.unlink(missing_ok=True)
        except OSError as err:
            raise StorageUnavailable(f"cannot delete in {self.path}: {err.strerror}.") from err


def _first_difference(old: Any, new: Any, where: str) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            found = _first_difference(old.get(key), new.get(key), f"{where}.{key}")
            if found:
                return found
        return ""
    return "" if old == new else f"{where} is {old!r} there and {new!r} here"
