"""A spec as a file: YAML in, one clear line for whatever is wrong with it, YAML out."""

import copy
import functools
import io
import json
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML, tokens
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.scanner import Scanner

from trainables.config import Baseline, BaselineImport, Quantize, file_sha256, in_words
from trainables.errors import ConfigError, StorageUnavailable, did_you_mean, nearest
from trainables.storage import storage_path
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.overrides import with_settings
from tune_app.spec.own_network import with_captured_network
from tune_app.spec.spelling import SPELLINGS
from tune_app.spec.trackers import AnyTracker, MlflowConfig, TensorBoardConfig, store_at_root

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MAX_SPEC_BYTES = 1_000_000
"""A longer file is no spec, and would only take longer to be refused."""
MAX_DEPTH = 50
"""YAML that is nested deeper is no spec, and slow to read."""
REMEMBERED = 8
"""Specs whose text and content are remembered: a command works with its own and with those of one or two experiments,
and asks for them again and again, which takes some hundredths of a second each time."""
TEXT = "tag:yaml.org,2002:str"
CHANGED = re.compile(r"[\x85\u2028\u2029]|^\?")
"""What YAML takes for an end of a line, and reads as a space; and a mark of a key inside braces."""
STDIN = "-"
EXAMPLE = "`tune-app demo` writes one to demo/demo.yaml"
OPENING = (
    tokens.FlowSequenceStartToken,
    tokens.FlowMappingStartToken,
    tokens.BlockSequenceStartToken,
    tokens.BlockMappingStartToken,
)
CLOSING = (tokens.FlowSequenceEndToken, tokens.FlowMappingEndToken, tokens.BlockEndToken)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


def _kinds(union: Any) -> list[str]:
    return [get_args(model.model_fields["kind"].annotation)[0] for model in _models_in(union)]


STARTS, ENDS = _kinds(Baseline), _kinds(Quantize)
UNION_TAGS = {"range", "choices", "conditional", *STARTS, *ENDS, "int", "float", "constrained-float", "str"}
"""What pydantic puts into the place of a problem to tell alternatives apart."""


def load_spec(source: str | Path | Mapping[str, Any], settings: Iterable[str] = (), **changes: Any) -> ExperimentSpec:
    """Reads and checks a spec; nothing is written. Relative paths in it start at the working directory.

    Args:
        source: the path of a YAML file, or what such a file holds as a mapping of its keys.
        settings: other values than the source's by the place of their key, as in `budget.trials=30`.
        changes: top-level keys that take the place of the source's, as in `load_spec("demo.yaml", name="wider")`.

    Raises:
        ConfigError: one line with the file, the key, the value, the rule and a way out.
        StorageUnavailable: there is a file in the place of the experiment's folder.
    """
    name = "spec" if isinstance(source, Mapping) else str(source)
    content = source if isinstance(source, Mapping) else _parse_yaml(read_text(Path(source)), name)
    return resolved(_checked(with_settings({**content, **changes}, settings), source=name))


def parse_spec(text: str, *, source: str, settings: Iterable[str] = ()) -> ExperimentSpec:
    """Reads a spec from YAML text, changed by `settings`; `source` names it in errors.

    Raises:
        ConfigError: as in `load_spec`.
    """
    return _checked(with_settings(_parse_yaml(text, source), settings), source=source)


def _checked(content: Mapping[str, Any], *, source: str) -> ExperimentSpec:
    """Returns the spec that a mapping of keys describes, or raises ConfigError as in `load_spec`."""
    try:
        spec = ExperimentSpec.model_validate(content)
        spec.space.check(spec.base)
    except ValidationError as err:
        raise ConfigError(f"{source}: {explain(err, ExperimentSpec)}") from err
    except ConfigError as err:
        raise ConfigError(f"{source}: {err}") from err
    return spec


def dump_spec(spec: ExperimentSpec) -> str:
    """Writes the resolved spec as YAML; `parse_spec` inverts it."""
    return _dumped(json.dumps(as_written(spec)))


@functools.lru_cache(maxsize=REMEMBERED)
def _dumped(content: str) -> str:
    return _yaml(json.loads(content), flow=False)


def as_written(spec: ExperimentSpec) -> dict[str, Any]:
    """Returns the values that a file of the resolved spec holds."""
    return {**spec.model_dump(mode="json"), "constraints": [str(c) for c in spec.constraints]}


def in_one_line(value: Any) -> str:
    """Writes a value as a spec may have it: `[accuracy >= 0.93]`, `{low: 0, high: 0.5}`, `null`."""
    if isinstance(value, dict):
        return _yaml(value, flow=True).strip()
    return _yaml([value], flow=True).strip()[1:-1]  # a list, since a lone scalar would be a document with an end mark


def read_text(path: Path) -> str:
    """Reads the text of a spec file; `-` is standard input.

    Raises:
        ConfigError: missing, a folder, too large, or not UTF-8.
    """
    try:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder: give the path of a spec file; {EXAMPLE}.")
        with sys.stdin.buffer if str(path) == STDIN else path.open("rb") as file:  # which may never end
            content = file.read(MAX_SPEC_BYTES + 1)
        if len(content) > MAX_SPEC_BYTES:
            raise ConfigError(f"{path} has more than {MAX_SPEC_BYTES:,} bytes: no spec has. {EXAMPLE}.")
        return as_text(content, source=str(path))
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) else err
        raise ConfigError(f"cannot read {path}: {reason}. Give the path of a spec file.") from err


def as_text(content: bytes, *, source: str) -> str:
    """Decodes the text of a spec; `source` names it in errors.

    Raises:
        ConfigError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise ConfigError(f"{source} is not UTF-8 text (byte {err.start}): save it as UTF-8.") from err


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    return copy.deepcopy(_parsed(text, source))


@functools.lru_cache(maxsize=REMEMBERED)
def _parsed(text: str, source: str) -> dict[str, Any]:
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner = _Scanner
    try:
        content = yaml.load(text)
    except ConfigError as err:
        raise ConfigError(f"{source}: {err}") from err
    except DuplicateKeyError as err:
        line = err.problem_mark.line + 1 if err.problem_mark else "?"
        key = re.search(r'key "(.*)" with value', str(err.problem), re.S)
        raise ConfigError(f"{source}: line {line}: {key[1] if key else 'a key'!r} stands twice: keep one.") from err
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
        raise ConfigError(f"{source}: a spec is a mapping of keys, but the file holds {found}; {EXAMPLE}.")
    return content


class _Scanner(Scanner):
    """Refuses what no spec has while it is read: the scanner's own time grows with the square of the depth."""

    depth = 0

    def get_token(self) -> Any:
        """Returns the next token, or raises ConfigError."""
        token = super().get_token()
        if isinstance(token, tokens.AliasToken):
            raise ConfigError("YAML aliases (*name) are not read: write the values out.")
        self.depth += isinstance(token, OPENING) - isinstance(token, CLOSING)
        if self.depth > MAX_DEPTH:
            raise ConfigError(f"nested deeper than {MAX_DEPTH} levels: no spec is.")
        return token


class _Representer(SafeRepresenter):
    """Writes texts in double quotes, with escapes, that would not be read back as they are."""


_Representer.add_representer(
    str, lambda own, text: own.represent_scalar(TEXT, text, style='"' if CHANGED.search(text) else None)
)


def _yaml(content: Any, *, flow: bool) -> str:
    yaml, stream = YAML(typ="safe"), io.StringIO()
    yaml.Representer = _Representer
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = flow, False  # type: ignore[assignment]
    if flow:
        yaml.width = 1_000_000
    yaml.dump(content, stream)
    return stream.getvalue()


def resolved(spec: ExperimentSpec) -> ExperimentSpec:
    """Makes paths absolute (workers may run elsewhere), takes the digest of a checkpoint, and captures networks.

    A spec that was resolved before stays what it is.

    Raises:
        ConfigError: a checkpoint or a network cannot be read.
        StorageUnavailable: there is a file in the place of the experiment's folder.
    """
    base = spec.base
    if base.data.root is not None:
        data = base.data.model_copy(update={"root": _absolute(base.data.root)})
        base = base.model_copy(update={"data": data})
    for name in ("baseline", "teacher"):
        network = getattr(base, name)
        if isinstance(network, BaselineImport):
            if not network.checkpoint and not network.network:
                raise ConfigError(f"base.{name}.checkpoint is missing: give the path of a checkpoint file.")
            if network.checkpoint:
                file = _absolute(network.checkpoint)
                network = network.model_copy(update={"checkpoint": file, "sha256": file_sha256(Path(file))})
                base = base.model_copy(update={name: network})
    place = storage_path(spec.storage)
    storage = _absolute(spec.storage) if isinstance(place, Path) else str(place)
    if isinstance(place, Path):
        _refuse_files(Path(storage) / spec.name)
    for name in ("baseline", "teacher"):
        network = getattr(base, name)
        if network is not None and network.network:
            known = with_captured_network(network, base.data, storage_path(storage), seed=base.seed)
            base = base.model_copy(update={name: known})
    tracking = tuple(map(_at_root, spec.tracking))
    return spec.model_copy(update={"base": base, "storage": storage, "tracking": tracking})


def _at_root(config: AnyTracker) -> AnyTracker:
    """Returns a tracker whose files lie at the same place in every working directory: a job has one of its own."""
    if isinstance(config, TensorBoardConfig) and config.folder:
        return config.model_copy(update={"folder": _absolute(config.folder)})
    return config.model_copy(update={"uri": store_at_root(config.uri)}) if isinstance(config, MlflowConfig) else config


def _refuse_files(folder: Path) -> None:
    """Raises StorageUnavailable where the experiment's folder cannot be made, since a file has its place."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if there.exists() and not there.is_dir():
        raise StorageUnavailable(f"storage: cannot make {folder}: {there} is a file. Name another folder.")


def _absolute(path: str) -> str:
    try:
        return str(Path(path).expanduser().resolve())
    except (OSError, ValueError, RuntimeError) as err:
        raise ConfigError(f"{path!r} is no usable path: {err}. Give the path of a file or folder.") from err


def explain(err: ValidationError, model: type[BaseModel]) -> str:
    """Says the first problem of a validation error in one line, with the nearest name for an unknown key."""
    problems = err.errors()
    problem = _first_problem(problems)
    places = [str(p) for p in problem["loc"] if p not in UNION_TAGS]
    where = ".".join(places) or "spec"
    if problem["type"] == "extra_forbidden":
        missing = [
            str(p["loc"][-1]) for p in problems if p["type"] == "missing" and p["loc"][:-1] == problem["loc"][:-1]
        ]
        known = list(dict.fromkeys([*_fields_at(model, places[:-1]), *missing]))
        hint = did_you_mean(places[-1], known, otherwise=f"known: {', '.join(known)}.")
        return f"unknown key {where!r}; {hint}"
    if problem["type"] == "missing":
        return f"{where} is missing: add it."
    if problem["type"] in {"union_tag_not_found", "union_tag_invalid"}:
        expected = problem["ctx"].get("expected_tags", "; ".join(str(kinds)[1:-1] for kinds in (STARTS, ENDS)))
        return f"{where}.kind must be one of {expected}."
    message = in_words(problem)
    if problem["type"] == "string_pattern_mismatch":
        message = f"must be {SPELLINGS[problem['ctx']['pattern']]}"
    value = str(problem["input"]) if isinstance(problem["input"], date) else repr(problem["input"])
    mapping = isinstance(problem["input"], dict)  # whose part the message names
    hidden = problem["type"] == "credential" or mapping or len(value) > 60 or value in message
    shown = "" if hidden else f" (got {value})"
    return f"{where}: {message}{shown}."


def _first_problem(problems: "list[ErrorDetails]") -> "ErrorDetails":
    """Returns the first problem, but an unknown key goes before the missing key of its mapping that it is like."""
    first = problems[0]
    unknown = [p for p in problems if p["type"] == "extra_forbidden" and p["loc"][:-1] == first["loc"][:-1]]
    like = (p for p in unknown if nearest(str(p["loc"][-1]), [str(first["loc"][-1])]))
    return next(like, first) if first["type"] == "missing" else first


def _fields_at(model: type[BaseModel], places: list[str]) -> list[str]:
    """Returns the field names of the model, or of the union of models, found by walking `places` down."""
    models: list[type[BaseModel]] = [model]
    for place in places:
        annotations = [m.model_fields[place].annotation for m in models if place in m.model_fields]
        models = [found for a in annotations for found in _models_in(a)]
    return list(dict.fromkeys(field.alias or name for m in models for name, field in m.model_fields.items()))
