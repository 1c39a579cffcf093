"""Secrets stay out of everything that is written and said: one function for text, one for values with their
keys.

A secret is known by the name it stands under (password, api_key, ...), by its form (credentials in an
address, a key's well-known beginning, a long string without a pattern) or as the value of an environment
variable of such a name. What is ours and looks alike stays: hashes, runs' names, artifacts' keys, paths. An
identity is hashed from the true values, of which a hash tells nothing.
"""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from itertools import pairwise
from typing import Any
from urllib.parse import quote

REDACTED = "<redacted>"
# letters alone, in one case, are a word up to here: a password that is one would be replaced wherever the
# word stands
LONGEST_WORD = 12

# the last word of a name: api_token, AWS_SECRET_ACCESS_KEY, dbPassword; but not max_tokens, tokenizer, monkey
_WORDS = (
    r"passwords?|passwd|passphrase|pwd|secrets?|token|credentials?|creds|webhook|dsn|authorization|cookie|jwt|bearer|pat|"
    r"(?:api|access|account|private|secret|shared|signing|encryption|auth|client|ssh|license|storage|hmac|master)[ "  # noqa: E501
    r"_-]?key|apikey|"
    r"conn(?:ection)?[_-]?str(?:ing)?|sharedaccesskey|sharedaccesssignature|signature|sig|sas"
)
_CLEAR = "password|passwd|secret|token|api_?key|accesskey|accountkey"  # whatever stands before them
_NAME = re.compile(
    rf"(?:.*(?:{_CLEAR})|(?:.*[^a-z])?(?:{_WORDS}|pass|auth|key))(?:_?(?:id|value|url|\d+))?$", re.IGNORECASE
)
_OF_TEXT = re.compile(
    r"(?:^|.*[^a-z])(?:bos|eos|pad|unk|sep|cls|mask|stop|start|end|special|first|last|next|prompt|response|text)[_ "  # noqa: E501
    r"-]?token$",
    re.I,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# what stands under `key` and `pass` in our own records
_OURS = re.compile(r"[0-9a-f]{16}|[0-9a-f]{64}|response|alone|gradient")
_ENVIRONMENT = re.compile(
    r"(?:KEY|TOKEN)S?(?:_|\d|$)|SECRET|PASSW|PASSPHRASE|CREDENTIAL|WEBHOOK|CONNECTION|CONNSTR|PASS$|PASS_|(?:^|_)(?:PWD|PAT|PAT_\w+|DSN|CREDS?|AUTH|SAS|JWT|COOKIE)(?:$|_)|[A-Z]PWD$"
)
_OF_COUNTS = re.compile(r"(?:^|_)(?:MAX|MIN|NUM|N|NEW)_(?:\w+_)?TOKENS?$")
_NOT_SECRET = {"PWD", "OLDPWD", "TOKENIZERS_PARALLELISM", "SSH_CONNECTION", "KEYBOARD", "SSH_AUTH_SOCK"}

# an address's credentials; a password may hold / and @; a port is none, and a user alone is a secret only
# where it is a token over http
_CREDENTIALS = re.compile(
    r"""(?<![a-z0-9+.-])([a-z][a-z0-9+.-]*://)(?!/)([^\s'"/:@?#]*:(?!\d{1,5}(?:[/?#\s'"]|$))(?:(?!://)[^\s'"])*)@""",
    re.I,
)
_USER = re.compile(r"""(?<![a-z0-9+.-])((?:git\+)?https?://)(?!git@)([^\s'"/:@?#]+)@""", re.I)
_QUERY = re.compile(
    r"([?&;](?:[\w.%-]{0,80}[^a-z&=?;])?(?:" + _WORDS + r"|key|auth|code|pass)=)([^&\s'\"#;]+)", re.I
)
_PAIR = re.compile(  # name=value, name: value, "name": "value"; bounded, as the text may be long
    r"((?<!\w)(?:[\w.@/+-]{0,80}(?:" + _CLEAR + r")|(?:[\w.@/+-]{0,80}[^A-Za-z\s'\"=:])?"
    r"(?:" + _WORDS + r"|[a-z0-9]{1,40}[_-]key|[a-z]{1,40}pass))['\"]?\s*(?:=|:(?!//)|\s=>\s)\s*)"
    r"(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;'\"&}\])]+)",
    re.I,
)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+([A-Za-z0-9+/=._~-]{8,})")
_KNOWN = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|gl(?:pat|ptt|dt|rt)-[\w-]{16,}|hf_[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}"
    r"|sk-(?:proj|ant|or|svcacct|admin)-[\w-]{16,}|sk-[A-Za-z0-9]{20,}|[rsp]k_(?:live|test)_[A-Za-z0-9]{12,}|(?:AKIA|ASIA|AROA|AIDA)[0-9A-Z]{12,}|xox[a-z]-[\w-]{8,}|xapp-[\w-]{8,}"
    r"|AIza[\w-]{30,}|ya29\.[\w-]{16,}|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?|npm_[A-Za-z0-9]{16,}|pypi-[\w-]{16,}|dop_v1_\w{16,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,}|wandb_v\d_\w{16,}|whsec_\w{16,}|r8_\w{16,}|gsk_\w{16,}|dckr_pat_[\w-]{8,})"
    r"|(?<=hooks\.slack\.com/)(?:services|workflows|triggers)/[\w/-]+|(?<=/api/webhooks/)\d+/[\w-]+|(?<=/webhook[b2]2/)[\w@/-]+",
)
# 40: AWS
_LONG = re.compile(
    r"(?<![A-Za-z0-9+/_-])(?:[A-Za-z0-9][A-Za-z0-9+/]{39}(?![A-Za-z0-9+/=])|[A-Za-z0-9_+-]{24,}={0,2})"
)
_IN_ADDRESS = re.compile(r"""https?://[^\s'"]+""", re.I)
_SLUG = re.compile(r"[a-z0-9_-]+-s\d+-[0-9a-f]{8}")
# of a connection string
_PARTS = re.compile(r"(?:AccountKey|SharedAccessKey|SharedAccessSignature|Password|Pwd)=([^;\s]+)", re.I)


def redact(text: str) -> str:
    """The text without secrets. What is replaced says by which environment variable it was known, or
    ``<redacted>``."""
    for value, name in environment():
        text = _without(text, value, f"<{name}>")
    text = _BEARER.sub(rf"\1 {REDACTED}", _KNOWN.sub(REDACTED, text))
    if "://" in text:
        text = _CREDENTIALS.sub(rf"\1{REDACTED}@", text)
        text = _USER.sub(rf"\1{REDACTED}@", text)
        text = _IN_ADDRESS.sub(lambda found: "/".join(map(_entropic, found[0].split("/"))), text)
    if "=" in text or ":" in text:
        text = _QUERY.sub(lambda found: found[1] + REDACTED, text)
        text = _PAIR.sub(_pair, text)
    return _LONG.sub(lambda found: _entropic(found[0]), text)


def redacted(value: Any, key: str = "") -> Any:
    """The same JSON value without secrets: those that stand under a secret's name are replaced whole."""
    if isinstance(value, dict):
        shown: dict[Any, Any] = {}
        for name, inner in value.items():
            safe = redact(name) if isinstance(name, str) else name
            shown[safe if safe not in shown else f"{safe} {len(shown)}"] = redacted(inner, str(name))
        return shown
    if isinstance(value, (list, tuple)):
        return [redacted(inner, key) for inner in value]
    if not isinstance(value, str):
        return value
    if (
        value
        and secret_name(key)
        and not _harmless(value)
        and not (key in ("key", "pass") and _OURS.fullmatch(value))
    ):
        return REDACTED
    return redact(value)


def secret_name(name: str) -> bool:
    """Whether what stands under this name is a secret by its name."""
    name = _CAMEL.sub("_", name)
    return bool(_NAME.match(name)) and not _OF_TEXT.match(name)


def of_environment(name: str) -> bool:
    """Whether the value of an environment variable of this name may stand nowhere."""
    return bool(_ENVIRONMENT.search(name.upper())) and name not in _NOT_SECRET


def environment() -> list[tuple[str, str]]:
    """Values of the environment that may stand nowhere, longest first, each with its variable's name."""
    return _secrets(tuple(os.environ.items()))


@lru_cache(maxsize=1)
def _secrets(variables: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for name, value in variables:
        if name in _NOT_SECRET or _OF_COUNTS.search(name.upper()) or not value:
            continue
        values = [value] if _ENVIRONMENT.search(name.upper()) and not _is_path(value) else []
        if "://" in value:
            for match in _CREDENTIALS.finditer(value):
                values += [value, match[2].partition(":")[2]]
            values += [match[2] for match in _USER.finditer(value)]
        values += _PARTS.findall(value) if values else []
        for one in values:
            if _telling(one):
                found.setdefault(one, name)
    return sorted(found.items(), key=lambda item: -len(item[0]))


def _without(text: str, value: str, by: str) -> str:
    """Also as JSON, YAML, an address and a shell write it."""
    for form in {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        value.replace("'", "''"),
        quote(value),
        quote(value, safe=""),
    }:
        if form not in text:
            continue
        if form.isalnum() and len(form) < 20:
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(form)}(?![A-Za-z0-9])", by, text)
        else:
            text = text.replace(form, by)
    return text


def _telling(value: str) -> bool:
    """Whether replacing this value wherever it stands spoils nothing: it is neither short nor a word, a
    number or a usual setting."""
    if len(value) < 6 or _harmless(value):
        return False
    if value.isalpha() and (value.islower() or value.isupper() or value.istitle()):
        return len(value) >= LONGEST_WORD
    return True


def _harmless(value: str) -> bool:
    """A switch, a number or nothing."""
    if value.lower() in (
        "true",
        "false",
        "none",
        "null",
        "yes",
        "no",
        "on",
        "off",
        "default",
        "auto",
        "missing",
        "???",
        "localhost",
    ):
        return True
    return bool(re.fullmatch(r"[+-]?\d{0,7}(?:\.\d*)?(?:e[+-]?\d+)?|<[\w ]+>", value, re.I))


def _is_path(value: str) -> bool:
    return value.startswith(("/", "~/", "./", "../")) and (
        os.path.exists(os.path.expanduser(value)) or value.count("/") > 1
    )


def _pair(found: re.Match[str]) -> str:
    name, value = re.split(r"\s*(?:=>|[=:])", found[1])[0].strip("'\""), found[2].strip("'\"")
    quoted = found[2][0] if found[2][0] in "'\"" else ""
    if (
        not value
        or _harmless(value)
        or value.startswith(("<", "${"))
        or value in ("Bearer", "Basic")
        or _OF_TEXT.match(name)
    ):
        return found[0]
    if (
        name.lower().endswith(("token", "sig", "sas", "pat", "cookie", "signature"))
        and ":" in found[1]
        and not quoted
        and value.rstrip(".").isalpha()
    ):
        return found[0]  # a sentence about a token of text
    return f"{found[1]}{quoted}{REDACTED}{quoted}"


def _entropic(text: str) -> str:
    """Replaced if it is long and changes between capitals, small letters and digits as only random strings
    do."""
    token = text.partition("?")[0]
    if (
        len(token) < 24
        or re.fullmatch(r"[0-9a-fA-F-]+", token)
        or _SLUG.fullmatch(token)
        or len(set(token)) < 10
    ):
        return text
    kinds = [0 if c.isdigit() else 1 if c.islower() else 2 if c.isupper() else 3 for c in token]
    changes = sum(a != b and 3 not in (a, b) for a, b in pairwise(kinds))
    return REDACTED if changes >= 0.28 * len(token) and any(c.isdigit() for c in token) else text
