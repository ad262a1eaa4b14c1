"""Names that clusters accept, made from an experiment's name."""

import hashlib
import re


def dns_label(text: str, *, longest: int) -> str:
    """Returns a DNS-1035 label (lower case, digits, hyphens, a letter first) of at most `longest` characters.

    Text that is one already stays as it is; other text gets six digits of its SHA-256, so that two
    experiments never share a name.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not plain[:1].isalpha():
        plain = f"x-{plain}".rstrip("-")
    if plain == text and len(plain) <= longest:
        return plain
    digest = hashlib.sha256(text.encode()).hexdigest()[:6]
    return f"{plain[: longest - len(digest) - 1].rstrip('-')}-{digest}"


def label_value(text: str) -> str:
    """Returns a Kubernetes label value: at most 63 letters, digits, `-`, `_` and `.`, alphanumeric at both ends."""
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", text):
        return text
    return dns_label(text, longest=63)
