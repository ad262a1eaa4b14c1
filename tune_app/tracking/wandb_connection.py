"""The way to W&B: whether there is a key, whether somebody answers, and what its errors become."""

import contextlib
import http.client
import netrc
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from trainables.errors import ConfigError
from trainables.storage import redact
from tune_app.spec.trackers import WandbConfig
from tune_app.tracking.protocol import TrackerUnavailable, unavailable

ANSWER_S = 5.0
"""Seconds that W&B may take for a first answer: a search must not wait longer for its start."""
CLOUD, CLOUD_DOMAINS = "api.wandb.ai", (".wandb.ai", ".coreweave.com")
"""Hosts of W&B's own service; a key for the first is good for all of them."""
OFFLINE, ONLINE, DISABLED = "offline", "online", "disabled"


@dataclass(frozen=True)
class Connection:
    """Where W&B's runs go, and how."""

    mode: str
    base_url: str
    warning: str = ""
    """Why runs do not go where they should; empty if they do."""


def connect(config: WandbConfig, *, fall_back: bool) -> Connection:
    """Asks W&B once, if there is a key for it; there is never a prompt. With `fall_back`, what cannot be used now is
    offline.

    Raises:
        ConfigError: online is asked for and there is no key, or W&B refuses its settings.
        TrackerUnavailable: W&B does not answer.
    """
    # WANDB_MODE decides where the spec does not.
    wanted = os.environ.get("WANDB_MODE", "auto") if config.mode == "auto" else config.mode
    asked = {"dryrun": OFFLINE, "run": ONLINE, "shared": ONLINE}.get(wanted, wanted)
    settings = _settings()
    url = str(settings.base_url)
    if asked in {OFFLINE, DISABLED}:
        return Connection(asked, url)
    if not _has_key(url, settings):
        problem = f"W&B has no key for {redact(url)}"
        if asked != "auto" and not fall_back:
            raise ConfigError(f"{problem}: run `wandb login`, set WANDB_API_KEY, or take mode: offline.")
        return Connection(OFFLINE, url, problem)
    silent = _why_silent(url)
    if not silent:
        return Connection(ONLINE, url)
    problem = f"W&B does not answer at {redact(url)} ({silent})"
    if not fall_back:
        raise TrackerUnavailable(f"{problem}: try again later, or write runs to files with --mode offline.")
    return Connection(OFFLINE, url, problem)


def library() -> Any:
    """Returns W&B's library, silent and without reports of its own."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


def _settings() -> Any:
    """Returns W&B's settings as its variables and files say them; its own error repeats what they hold.

    Raises:
        ConfigError: one of them cannot be read.
    """
    try:
        return library().setup().settings
    except ValidationError as err:
        problem = err.errors(include_input=False)[0]
        said = f"WANDB_{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}"
    except Exception as err:
        said = str(err)
    raise ConfigError(f"W&B refuses its settings: {said}. Mend or unset the variable.")


def answers() -> contextlib.AbstractContextManager[None]:
    """Turns W&B's errors, its silence, and whatever comes out when its process dies into one error of ours."""
    return unavailable("W&B stopped answering", secret=os.environ.get("WANDB_API_KEY", ""))


def _has_key(url: str, settings: Any) -> bool:
    """Whether there is a key in the environment, in W&B's settings, or where `wandb login` leaves it."""
    if settings.api_key or os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(url).netloc
    hosts = {host, CLOUD} if host.endswith(CLOUD_DOMAINS) else {host}
    places = [os.environ.get("NETRC", ""), "~/.netrc", "~/_netrc"]
    for path in (Path(place).expanduser() for place in places if place):
        with contextlib.suppress(OSError, netrc.NetrcParseError, RuntimeError):
            return not hosts.isdisjoint(netrc.netrc(str(path)).hosts)
    return False


def _why_silent(url: str) -> str:
    """Returns why nobody answers at an address; empty if somebody does, whatever the answer is."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=ANSWER_S):
            return ""
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError, http.client.HTTPException) as err:
        reason = getattr(err, "reason", err)
        return f"no answer in {ANSWER_S:g} s" if isinstance(reason, TimeoutError) else redact(str(reason).strip())
