"""A plain value as YAML text: keys in their order, lines never folded, text of several lines as a literal block."""

import io
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString, SingleQuotedScalarString

# What a reader of YAML 1.1, such as kubectl and Ray's, takes for a boolean, a number, a time or a merge key.
NOT_TEXT = re.compile(r"(?i)y|n|yes|no|on|off|true|false|null|~|=|<<|[-+]?\.(inf|nan)|[-+]?\.?[0-9].*")
# What YAML refuses where it is not escaped, or takes for an end of a line.
ESCAPED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")


def yaml_text(*documents: Any) -> str:
    """Returns mappings, sequences, strings, numbers and booleans as YAML; several documents are parted by `---`."""
    yaml = YAML()
    yaml.width = 1_000_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    for i, document in enumerate(documents):
        if i:
            stream.write("---\n")
        yaml.dump(_marked(document), stream)
    return stream.getvalue()


def _marked(value: Any) -> Any:
    """Returns the value with every string marked that cannot stand plainly."""
    if isinstance(value, str):
        if ESCAPED.search(value):
            return DoubleQuotedScalarString(value)
        if "\n" in value:
            return LiteralScalarString(value)
        return SingleQuotedScalarString(value) if NOT_TEXT.fullmatch(value) else value
    if isinstance(value, dict):
        return {_marked(key): _marked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(inner) for inner in value]
    return value
