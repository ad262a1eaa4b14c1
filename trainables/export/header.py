"""The header of a packed file: what the decoder must know beside the arrays, and its short form in the file.

In the file, widths and bits per layer are one list each in the order of the network, not a dict of names.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from pydantic import Field, ValidationError

from trainables.config import Architecture, Frozen, QuantScheme
from trainables.costs.operations import point_bits
from trainables.errors import ConfigError, CorruptFile
from trainables.export.coders.coder import LayerSpec
from trainables.export.container import FORMAT, VERSION
from trainables.models.attach import attach_quantizers_
from trainables.models.model import Model, build, unpruned
from trainables.models.units import units

MAX_WEIGHTS = 1 << 28
"""A network of zeros takes next to no bytes: without a bound, a small file could ask for any memory."""


class Header(Frozen):
    """A network as a packed file describes it: what it is, and what its input must look like."""

    format: str = FORMAT
    version: int = VERSION
    architecture: Architecture
    scheme: QuantScheme
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Contents(Frozen):
    """A list of what is in the arrays of a packed file."""

    kinds: tuple[int, ...] = Field(description="the kind of each layer's coder")
    words: int = Field(ge=0, description="words of 32 bits at the start of `codes`")
    wide_biases: tuple[int, ...] = Field((), description="layers with int16 biases where others have int8")
    weights_sha256: str = Field(description="the SHA-256 of all decoded weights, little-endian")


def skeleton(header: Header) -> Model:
    """Returns the network with its quantizers, without memory for its tensors."""
    with torch.device("meta"):
        model = build(header.architecture)
        attach_quantizers_(model, header.scheme)
    return model


def layer_specs(model: Model) -> list[LayerSpec]:
    """Returns name, shape and bits of every weight, in forward order, or raises ConfigError: more than a file holds."""
    specs = [LayerSpec(n, tuple(u.layer.weight.shape), point_bits(u.weight_point)) for n, u in units(model).items()]
    count = sum(spec.count for spec in specs)
    if count > MAX_WEIGHTS:
        raise ConfigError(f"a packed file holds at most {MAX_WEIGHTS:,} weights, not {count:,}: choose a narrower one.")
    return specs


def to_json(header: Header, contents: Contents) -> dict[str, Any]:
    """Returns the short form of a header and contents; the graph of a network of one's own is not in it."""
    content = header.model_dump(mode="json", exclude={"format", "version"})
    architecture = content["architecture"]
    architecture["model"].pop("graph", None)
    groups, later, layers = _names(header.architecture)
    architecture["widths"] = _to_list(header.architecture.widths, groups)
    if header.architecture.widths.keys() & later:
        architecture["widths"] += _to_list(header.architecture.widths, later)
    if header.architecture.kept:
        architecture["kept"] = {name: _mask(channels) for name, channels in header.architecture.kept.items()}
    content["scheme"]["w_bits_by_layer"] = _to_list(header.scheme.w_bits_by_layer, layers)
    for name in ("narrow_block_inputs", "activation_ranges"):  # files of before do not have them
        if content["scheme"][name] == QuantScheme.model_fields[name].default:
            content["scheme"].pop(name)
    return {**content, **contents.model_dump(mode="json")}


def from_json(content: Mapping[str, Any], *, graph: str = "") -> tuple[Header, Contents, Model]:
    """Returns the header and contents of a short form, and the skeleton of the network.

    `graph` is the stored graph that came with it, of a network of one's own.

    Raises:
        CorruptFile: a field is missing, unknown, or has no legal value.
    """
    try:
        fields = dict(content)
        contents = Contents.model_validate({name: fields.pop(name) for name in Contents.model_fields})
        architecture, scheme = dict(fields["architecture"]), dict(fields["scheme"])
        if graph:
            architecture["model"] = {**architecture["model"], "graph": graph}
        widths, bits = architecture.pop("widths"), scheme.pop("w_bits_by_layer")
        kept = {name: _channels(mask) for name, mask in dict(architecture.pop("kept", {})).items()}
        groups, later, layers = _names(Architecture.model_validate(architecture))
        names = [*groups, *(later if len(widths) > len(groups) else [])]
        architecture |= {"widths": _to_dict(widths, names), "kept": kept}
        scheme["w_bits_by_layer"] = _to_dict(bits, layers)
        header = Header.model_validate({**fields, "architecture": architecture, "scheme": scheme})
        model = skeleton(header)
        layer_specs(model)
        return header, contents, model
    except ValidationError as err:
        problem = err.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise CorruptFile(f"packed file: {place} is not legal ({problem['msg']})") from err
    except ConfigError as err:
        raise CorruptFile(f"packed file: {str(err).splitlines()[0]}") from err
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError, RuntimeError) as err:
        raise CorruptFile("packed file: the header does not describe a network") from err


def _names(architecture: Architecture) -> tuple[list[str], list[str], list[str]]:
    """Returns the names of the groups inside of blocks, of the other groups, and of the layers, before pruning."""
    model = unpruned(architecture)
    groups = model.prune_groups()
    return [g.name for g in groups if g.inner], [g.name for g in groups if not g.inner], list(units(model))


def _mask(channels: Sequence[int]) -> str:
    """Returns channels as the bits of a hexadecimal number, behind a leading 1."""
    return f"{1 << (max(channels) + 1) | sum(1 << channel for channel in channels):x}"


def _channels(mask: str) -> list[int]:
    bits = int(mask, 16)
    return [place for place in range(bits.bit_length() - 1) if bits >> place & 1]


def _to_list(values: Mapping[str, int], names: Iterable[str]) -> list[int]:
    """Returns values in the order of the names, 0 where there is none; empty for an empty dict."""
    return [values.get(name, 0) for name in names] if values else []


def _to_dict(values: Sequence[int], names: Sequence[str]) -> dict[str, int]:
    """Returns the values that are not 0 by name; none for an empty list."""
    return {name: value for name, value in zip(names, values, strict=True) if value != 0} if values else {}
