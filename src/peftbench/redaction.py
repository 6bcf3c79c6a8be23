"""Passwords and tokens taken out of a text before it is shown, stored or sent.

What counts as one: the value of an environment variable whose name says so, credentials in a URL, and what
`netrc` and the hub's token file hold. Only in a stranger's text is what merely looks random taken for one.
"""

import json
import netrc
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

HIDDEN = "***"
_TELLING = {
    *(
        "APIKEY",
        "CREDENTIAL",
        "CREDENTIALS",
        "KEY",
        "PASS",
        "PASSPHRASE",
        "PASSWD",
        "PASSWORD",
        "PAT",
        "PSK",
        "PWD",
    ),
    *("SECRET", "SIGNATURE", "TOKEN"),
}
"""Words in the name of a variable that holds a secret."""
_URL = re.compile(r"\b([a-z][a-z0-9+.-]*:/+)(?:[^\s/?#:@\"']+:[^\s\"']*|[^\s/?#\"']+)@", re.IGNORECASE)
"""A password may hold what should have been written in another way, such as a slash."""
_SHORTEST = 8
_NAME = re.compile(r"[a-z_-]{1,15}|\d{1,11}")
"""Values that are words of a configuration or numbers: they would be found where nobody meant them."""


def redacted(text: str) -> str:
    """The text with every known secret and all credentials in URLs replaced by `***`."""
    return _without(text, secrets())


def redacted_json(text: str) -> str:
    """The same for the strings in JSON; numbers stay, so that it remains JSON."""
    known = secrets()
    return re.sub(r'"(?:[^"\\]|\\.)*"', lambda found: _without(found[0], known), text)


def redacted_line(text: str, longest: int = 200) -> str:
    """The first line of a stranger's text, without whatever may be a secret: long words with digits as well."""
    lines = redacted(text).strip().splitlines()
    line = lines[0] if lines else ""
    line = re.sub(r"\b(bearer|basic)\s+\S+", rf"\1 {HIDDEN}", line, flags=re.IGNORECASE)
    line = re.sub(
        r"(\w*(?:key|token|secret|password|passwd|pwd)\w*[\"']?\s*[=:]\s*)[^\s&]+",
        rf"\1{HIDDEN}",
        line,
        flags=re.IGNORECASE,
    )
    line = re.sub(r"(?=[^\s\d]*\d)[\w+=~-]{20,}", HIDDEN, line)
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def secrets() -> list[str]:
    """All that is known to be secret here, in every form that it may be written in; the longest first."""
    found: set[str] = set(_of_files())
    for name, value in os.environ.items():
        if telling(name) and not _is_file(value):
            found.update([value, *value.splitlines()])
        found.update(_of_url(value))
    known = {
        each.strip() for each in found if len(each.strip()) >= _SHORTEST and not _NAME.fullmatch(each.strip())
    }
    forms = {
        form for each in known for form in (each, quote(each, safe=""), json.dumps(each)[1:-1], repr(each)[1:-1])
    }
    return sorted(forms, key=len, reverse=True)


def telling(name: str) -> bool:
    """Whether a variable of this name holds a secret, as `HF_TOKEN` does and `TOKENIZERS_PARALLELISM` does not."""
    return not _TELLING.isdisjoint(name.upper().split("_")) and name.upper() not in ("PWD", "OLDPWD")


def environment(*prefixes: str) -> Mapping[str, str]:
    """The variables of this process without its secrets, but with those whose names begin with a prefix."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper().startswith(prefixes) or not (telling(name) or _of_url(value))
    }


def _without(text: str, known: list[str]) -> str:
    for secret in known:
        text = text.replace(secret, HIDDEN)
    return _URL.sub(rf"\1{HIDDEN}@", text)


def _is_file(value: str) -> bool:
    """Whether this is the path of a key and not the key."""
    try:
        return Path(value).exists()
    except (OSError, ValueError):
        return False


def _of_url(text: str) -> list[str]:
    """User and password in a URL; the user too, which is where tokens are put."""
    if "@" not in text or "://" not in text:
        return []
    with suppress(ValueError):
        parts = urlsplit(text)
        return [form for each in (parts.username, parts.password) if each for form in (each, unquote(each))]
    return []


def _of_files() -> list[str]:
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface")
    found = []
    with suppress(OSError, ValueError, RuntimeError):  # a user may have no home
        token = Path(os.environ.get("HF_TOKEN_PATH") or home / "token").expanduser()
        found.append(token.read_text(encoding="utf-8").strip())
    for file in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        with suppress(OSError, ValueError, RuntimeError, netrc.NetrcParseError):
            hosts = netrc.netrc(Path(file).expanduser()).hosts if file else {}
            found += [password for _, _, password in hosts.values() if password]
    return found
