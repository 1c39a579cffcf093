"""A server that speaks OpenAI's protocol as a judge: every reply is kept, so that nothing is asked twice.

Replies lie in the cache folder, each in a file of its own that is whole or not there, under a hash of the
model and all that it was asked; whatever is killed, full or out of budget, the same command goes on from
there. The key is read from the environment when the client is made and is nowhere else.
"""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from smartdpp.bounds import Count, NotNegative, Positive, Seed
from smartdpp.errors import InputError
from smartdpp.judge import template
from smartdpp.logs.redact import of_environment, redact
from smartdpp.store.disk import digest, read_object, write_json
from smartdpp.store.place import cache_dir
from smartdpp.types import Question, Spent, Verdict

# [[A]]; the letter alone, with or without "Answer"; or the letter as the last word
PATTERN = r"\[\[([AB])\]\]|^\W*(?:(?i:answer)\W+)?([AB])\W*(?:\n|$)|\b([AB])\W*$"
THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
CHARACTERS = 4  # of a token, where nobody has counted
FIRST, LONGEST = 0.5, 60.0  # seconds before the second try, and the most before any
SHOWN = 300  # characters of a server's message
AGAIN = (408, 409, 425, 429)  # and all from 500 on


@dataclass(frozen=True)
class Endpoint:
    """``base_url`` and ``model`` as the server has them; ``key_env`` names the environment variable that
    holds the key, None for a server without one.

    ``concurrency`` questions are under way at once. One that fails for a while (429, 5xx, no answer within
    ``timeout`` seconds, half an answer) is asked again up to ``retries`` times, after the seconds that the
    server says or else twice as many as before. ``max_calls`` and ``max_tokens`` are what one model's answers
    may cost; None: no limit. ``extra`` goes into every request as it is. How it is asked does not make the
    run another one: the judge is known by its ``model``, wherever it is served, as a server's address says
    nothing of what it holds. Where two servers hold different models under one name, ``served_as`` tells them
    apart: neither replies nor runs are shared between two names.
    """

    base_url: str
    model: str
    key_env: str | None = None
    template: str | None = None
    pattern: str = PATTERN
    temperature: NotNegative | None = 0.0
    reply_tokens: Count | None = 16
    extra: dict[str, Any] | None = None
    concurrency: Count = 8
    timeout: Positive = 60.0
    retries: Seed = 5
    max_calls: Count | None = None
    max_tokens: Count | None = None
    served_as: str | None = None

    def check(self) -> list[str]:
        problems = template.problems(self.template)
        if find_spec("openai") is None:
            problems.append(
                "evaluation.judge: the package openai is not installed: pip install 'smartdpp[judge]'"
            )
        if not re.match(r"https?://[^\s/]", self.base_url):
            problems.append("evaluation.judge.base_url is no address: give one like http://localhost:8000/v1")
        try:
            if re.compile(self.pattern).groups < 1:
                problems.append("evaluation.judge.pattern has no group: one of its groups holds A or B")
        except re.error as error:
            problems.append(f"evaluation.judge.pattern is no regular expression ({error})")
        return problems + self._key_problems()

    def _key_problems(self) -> list[str]:
        """What stands there may be the key itself, by mistake, so it is only repeated where it is a name."""
        name = self.key_env
        if name is None or (re.fullmatch(r"[A-Z_][A-Z0-9_]*", name) and of_environment(name) and self.key()):
            return []
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name) or not of_environment(name):
            return [
                "evaluation.judge.key_env: give the name of the environment variable that holds the key, in "
                "capitals and with KEY or TOKEN at its end, as OPENAI_API_KEY; never the key"
            ]
        return [f"evaluation.judge.key_env: the environment variable {name} is not set"]

    def fingerprint(self) -> str:
        return digest(template.read(self.template))

    def refusals(self, questions: int) -> list[str]:
        if self.max_calls is None or 2 * questions <= self.max_calls:
            return []
        return [
            f"evaluation.judge.max_calls={self.max_calls}: {questions} instructions are {2 * questions} "
            f"calls, as both orders are asked; allow {2 * questions} or more (failed ones count too), or "
            "lower evaluation.limit"
        ]

    def stated(self, questions: int, characters: int) -> str:
        read = 2 * (characters + questions * len(template.read(self.template))) // CHARACTERS
        tokens = read + 2 * questions * (self.reply_tokens or 0)
        calls = "no limit" if self.max_calls is None else f"at most {self.max_calls:,}"
        most = "no limit" if self.max_tokens is None else f"at most {self.max_tokens:,}"
        return (
            f"up to {2 * questions:,} calls of {self.model} ({calls}), up to about {tokens:,} tokens "
            f"({most}); replies that are kept cost nothing"
        )

    def prepare(self) -> EndpointAsking:
        return EndpointAsking(self, template.read(self.template))

    def request(self, text: str) -> dict[str, Any]:
        """All that decides a reply."""
        said: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": text}]}
        if self.temperature is not None:
            said["temperature"] = self.temperature
        if self.reply_tokens is not None:
            said["max_tokens"] = self.reply_tokens
        return said | ({"extra_body": self.extra} if self.extra else {})

    def name_of(self, request: dict[str, Any]) -> str:
        """What its reply is kept under."""
        return digest(request if self.served_as is None else {"served_as": self.served_as} | request)

    def parsed(self, reply: str) -> float | None:
        """1 where the answer that is shown first is named, 0 for the second; None for neither."""
        found = re.search(self.pattern, THOUGHT.sub("", reply).strip())
        letter = next((group for group in found.groups() if group), "") if found else ""
        return {"A": 1.0, "B": 0.0}.get(letter.upper())

    def key(self) -> str:
        return os.environ.get(self.key_env or "", "").strip()

    def hidden(self, text: str) -> str:
        """Without the key, whatever a server repeats of it."""
        key = self.key()
        return redact(text.replace(key, f"<{self.key_env}>") if key else text)


class Stopped(Exception):
    """Another question has ended the asking."""


@dataclass(frozen=True)
class EndpointAsking:
    judge: Endpoint
    text: str
    spent: Spent = field(default_factory=Spent)
    counting: Any = field(default_factory=threading.Lock, repr=False)
    stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    def __call__(self, questions: Sequence[Question]) -> list[Verdict]:
        """InputError where the server refuses, does not answer after all tries, or the budget is used up;
        what was answered until then is kept."""
        asked = [
            self.judge.request(shown)
            for question in questions
            for shown in template.both_orders(self.text, question)
        ]
        keys = [self.judge.name_of(request) for request in asked]
        replies = self._replies(dict(zip(keys, asked, strict=True)))
        said = [replies[key] for key in keys]
        verdicts = []
        for first, second in zip(said[::2], said[1::2], strict=True):
            other = self.judge.parsed(second)
            shown_second = None if other is None else 1 - other
            verdicts.append(Verdict(self.judge.parsed(first), shown_second, (first, second)))
        return verdicts

    def _replies(self, requests: dict[str, dict[str, Any]]) -> dict[str, str]:
        replies = {key: reply for key in requests if (reply := _kept(key)) is not None}
        self.spent.kept += len(replies)
        missing = requests.keys() - replies.keys()
        if not missing:
            return replies
        with self._client() as client, ThreadPoolExecutor(self.judge.concurrency) as pool:
            under_way = {
                pool.submit(self._reply, client, key, requests[key]): key
                for key in requests
                if key in missing
            }
            try:
                for future in as_completed(under_way):
                    replies[under_way[future]] = future.result()
            except BaseException:  # what is under way is waited for and kept, the rest is not begun
                self.stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return replies

    def _client(self) -> Any:
        from openai import OpenAI

        return OpenAI(
            base_url=self.judge.base_url,
            api_key=self.judge.key() or "none",
            timeout=self.judge.timeout,
            max_retries=0,  # every try is counted here
        )

    def _reply(self, client: Any, key: str, request: dict[str, Any]) -> str:
        """Asks until there is a reply, and keeps it."""
        import openai

        guess = len(request["messages"][0]["content"]) // CHARACTERS + (self.judge.reply_tokens or 0)
        said = ""
        for tried in range(self.judge.retries + 1):
            self._take(guess)
            wait = min(FIRST * 2**tried, LONGEST) * random.uniform(0.75, 1.25)
            try:
                found = client.chat.completions.create(**request)
                reply, tokens = _read(found)
            except openai.APIStatusError as error:
                self._count(-guess)
                said = self._said(error, f"status {error.status_code}")
                if error.status_code not in AGAIN and error.status_code < 500:
                    raise InputError(
                        f"evaluation.judge: the server refuses ({said}): look at base_url, model and the key"
                    ) from None
                if error.code == "insufficient_quota":
                    raise InputError(f"evaluation.judge: {said}; replies so far are kept") from None
                wait = max(wait, _asked_to_wait(error))
            except openai.APIConnectionError as error:
                self._count(-guess)
                slow = isinstance(error, openai.APITimeoutError)
                said = (
                    f"no answer within {self.judge.timeout:g} s"
                    if slow
                    else self._said(error, "no connection")
                )
            except (ValueError, AttributeError, TypeError, LookupError, openai.APIError) as error:
                self._count(-guess)
                said = self._said(error, "what it answered cannot be read")
            else:
                self._count((tokens or guess) - guess)
                reply = self.judge.hidden(reply)
                _keep(key, reply, self.judge.model)
                return reply
            if tried < self.judge.retries and self.stopped.wait(min(wait, LONGEST)):
                raise Stopped
        raise InputError(
            f"evaluation.judge: {self.judge.retries + 1} tries and no reply ({said}). Replies so far are "
            "kept: the same command goes on from there; raise evaluation.judge.retries or timeout, or lower "
            "concurrency"
        )

    def _take(self, guess: int) -> None:
        """Counts a call before it is made. InputError where the budget has no room for it."""
        judge, spent = self.judge, self.spent
        with self.counting:
            if self.stopped.is_set():
                raise Stopped
            for name, limit, after in (
                ("max_calls", judge.max_calls, spent.calls + 1),
                ("max_tokens", judge.max_tokens, spent.tokens + guess),
            ):
                if limit is not None and after > limit:
                    raise InputError(
                        f"evaluation.judge.{name}={limit}: used up after {spent.calls} calls and about "
                        f"{spent.tokens} tokens. Replies so far are kept: the same command goes on from "
                        "there with the budget anew; raise it to finish at once"
                    )
            spent.calls += 1
            spent.tokens += guess

    def _count(self, tokens: int) -> None:
        with self.counting:
            self.spent.tokens += tokens

    def _said(self, error: Exception, what: str) -> str:
        return f"{what}: {self.judge.hidden(' '.join(str(error).split()))[:SHOWN]}"


def _read(found: Any) -> tuple[str, int]:
    """A reply's text and its tokens, 0 where they are not counted. ValueError for another schema."""
    choices = getattr(found, "choices", None)
    if not choices or not isinstance(content := choices[0].message.content or "", str):
        raise ValueError("there is no choices[0].message.content")
    return content, int(getattr(found.usage, "total_tokens", 0) or 0)


def _asked_to_wait(error: Any) -> float:
    """Seconds of Retry-After; a date is not read."""
    try:
        return max(0.0, float(error.response.headers.get("retry-after", 0)))
    except ValueError:
        return 0.0


def _file(key: str) -> Path:
    return cache_dir() / "judge" / key[:2] / f"{key}.json"


def _kept(key: str) -> str | None:
    """A damaged file is asked for anew."""
    found = read_object(_file(key))
    return found["reply"] if isinstance(found, dict) and isinstance(found.get("reply"), str) else None


def _keep(key: str, reply: str, model: str) -> None:
    _file(key).parent.mkdir(parents=True, exist_ok=True)
    write_json(_file(key), {"model": model, "reply": reply})
