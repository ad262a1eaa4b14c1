"""Credentials that ended up in text where a name was meant: found by the form of widely used keys and tokens."""

import re
from collections.abc import Iterator
from typing import Any

FORMS = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{22,})"),
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    "an API key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "a Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a Google API key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
    "a web token": re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\."),
    # Exactly 40: a SHA-256 has 64 digits. As the tag of an image, or in a path, it is a commit.
    "a W&B key": re.compile(r"(?<![0-9A-Za-z/@])(?<!\w:)[0-9a-f]{40}(?![0-9A-Za-z])"),
    # One of digits alone, before a slash, is a port.
    "a password in an address": re.compile(
        r"(?i)\w://(?:[^/\s:@]*:(?!\d+/)[^\s@]+@|\S*[?&](?:password|passwd|pwd|token|access_token|api_key|secret)=\S)"
    ),
}


def credential_in(text: str) -> str | None:
    """Returns what kind of credential a text holds ("an AWS access key"), or None."""
    return next((kind for kind, form in FORMS.items() if form.search(text)), None)


def strings_in(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yields every string inside nested mappings and sequences, keys included, with the dotted place where it is."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from strings_in(key, place)
            yield from strings_in(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from strings_in(inner, f"{place}.{i}".lstrip("."))
