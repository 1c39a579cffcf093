"""Secrets are known by name, form or environment; what is ours and looks alike stays."""

from __future__ import annotations

import pytest

from smartdpp.logs.redact import redact, redacted

LONG = "x7Kq9ZtR2mVb4NcL8wPf3HdJ"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    values = {
        "DB_PASS": "swordfish-9",
        "MYSQL_PWD": "open;sesame",
        "DATABASE_URL": "postgres://reader:p@ss/w0rd@db.example.org/runs",
        "GITHUB_PAT": "pat 0123 with blanks",
        "SLACK_WEBHOOK_URL": "https://hooks.example.org/T0/B0/quiet",
        "STORAGE_CONNECTION_STRING": "AccountName=lab;AccountKey=Zm9vYmFyYmF6cXV4==;EndpointSuffix=example.org",  # noqa: E501
        "SENTRY_DSN": "https://abcde@sentry.example.org/7",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


def test_values_of_the_environment_stand_nowhere_in_whatever_spelling(environment: dict[str, str]) -> None:
    for name, value in environment.items():
        assert redact(f"before {value} after") == f"before <{name}> after"
    assert (
        redact("the password alone: p@ss/w0rd, quoted p%40ss%2Fw0rd")
        == "the password alone: <DATABASE_URL>, quoted <DATABASE_URL>"
    )
    assert redact("Zm9vYmFyYmF6cXV4==") == "<STORAGE_CONNECTION_STRING>"


def test_short_and_common_values_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    common = {
        "A_TOKEN": "true",
        "B_KEY": "/root",
        "C_SECRET": "adapter",
        "D_PASS": "230",
        "E_KEY": "s0",
        "PATH": "/usr/bin:/bin",
        "PWD": "/a/b/c",
    }
    for name, value in common.items():
        monkeypatch.setenv(name, value)
    text = "adapter of /root/x, true, 230 rows, s0, /usr/bin:/bin in /a/b/c"
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("root=s3://AKID:se/cr+et@bucket/study", "root=s3://<redacted>@bucket/study"),
        ("postgres://u:a@b@host/x and more", "postgres://<redacted>@host/x and more"),
        ("redis://:only@host", "redis://<redacted>@host"),
        ("git+https://token0@example.org/x.git", "git+https://<redacted>@example.org/x.git"),
        ("https://h/x.jsonl?sv=1&sig=ab%3D&x=2", "https://h/x.jsonl?sv=1&sig=<redacted>&x=2"),
        (
            "https://h/x?X-Amz-Signature=0a1b&token=t#part",
            "https://h/x?X-Amz-Signature=<redacted>&token=<redacted>#part",
        ),
        ("+model.api_key=abcdef", "+model.api_key=<redacted>"),
        ("corpus.dbPassword: 'two words'", "corpus.dbPassword: '<redacted>'"),
        ('{"access_token": "abc", "n": 3}', '{"access_token": "<redacted>", "n": 3}'),
        ("Authorization: Bearer abcdef12345", "Authorization: Bearer <redacted>"),
        ("AccountName=a;AccountKey=abc/d==;x=y", "AccountName=a;AccountKey=<redacted>;x=y"),
        ("ghp_0123456789abcdefABCD", "<redacted>"),
        ("my hf_abcdefghijklmnopq.", "my <redacted>."),
        ("sk-proj-abcdefghijklmnop", "<redacted>"),
        ("AKIAIOSFODNN7EXAMPLE", "<redacted>"),
        ("xoxb-12345678-abc", "<redacted>"),
        ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "<redacted>"),
        (f"model.name={LONG}", "model.name=<redacted>"),
        (f"https://h/{LONG}/x", "https://h/<redacted>/x"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n", "<redacted>\n"),
    ],
)
def test_secrets_are_known_by_their_form(text: str, said: str) -> None:
    assert redact(text) == said


@pytest.mark.parametrize(
    "text",
    [
        "smart-minilm-b230-s0-22238c00",
        "topk-a1b2c3d4-b230-s0-1a2b3c4d: finished before",
        "store/embedding/6fe7d18ccab7c18e/meta.json",
        "0b8c1d" * 10 + "0b8c",  # a sha256
        "123e4567-e89b-12d3-a456-426614174000",
        "Meta-Llama-3-70B-Instruct-GPTQ-Int4-Something",
        "abfs://container@account.dfs.core.windows.net/x, git+ssh://git@github.com/x, "
        "http://localhost:8080/a@b",
        "pool.max_tokens=256 tokens: many, nats per token: 2.516, tokenizer=byte",
        "row 3 has no token: they have no loss; 2.52 nats per token: smart; pad_token = "
        "tokenizer.eos_token; {'eos_token': 'x'}",
        "KeyError: 'kept'; eos_token='</s>'; passes=3",
        "function@strategy.tasks=logdet embedding@probe=tfidf corpus.columns={score: rating}",
        "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct/resolve/main/model.safetensors",
        "/tmp/pytest-of-someone/pytest-12/test_secrets_are_known_by_their_form0/runs",
    ],
)
def test_what_is_ours_stays(text: str) -> None:
    assert redact(text) == text


def test_what_stands_under_a_secrets_name_goes_whatever_it_is() -> None:
    record = {
        "api_key": "x",
        "token": ["a", "b"],
        "dbPassword": "p q",
        "auth": "u",
        "use_auth": True,
        "password": None,
    }
    assert redacted(record) == {
        "api_key": "<redacted>",
        "token": ["<redacted>"] * 2,
        "dbPassword": "<redacted>",
        "auth": "<redacted>",
        "use_auth": True,
        "password": None,
    }
    ours = {
        "key": "6fe7d18ccab7c18e",
        "params": {"pass": "response", "max_tokens": 256, "tokenizer": "byte"},
        "tokens_per_example": "9",
    }
    assert redacted(ours) == ours


def test_variables_that_hold_no_secret_blot_out_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {
        "TOKENIZER": "gpt2-medium",
        "TOKENIZER_NAME": "org/tokens-v2",
        "MAX_TOKENS": "10000000",
        "KEYWORD": "semantics-2",
        "NUM_NEW_TOKENS": "20000000",
    }
    for name, value in plain.items():
        monkeypatch.setenv(name, value)
        assert redact(f"model.path={value} is read") == f"model.path={value} is read"
    for name in ("MY_API_KEY", "HF_TOKEN", "TOKEN", "SIGNING_KEYS", "TOKEN_2", "DEPLOY_KEY_OLD"):
        monkeypatch.setenv(name, f"value-of-{name.lower()}-1")
        assert redact(f"it is value-of-{name.lower()}-1") == f"it is <{name}>"


def test_names_that_only_begin_as_keys_do_stay() -> None:
    for name in (
        "org/sk-something-model-v1-base",
        "sk-learn-something-long-name",
        "sk-SK-question-answering",
    ):
        assert redact(name) == name
    for key in (
        "sk-proj-abcdefghijklmnopqr",
        "sk-ant-api03-abcdefghijklmnop",
        "sk-abcdefghijklmnopqrstuvwx12",
    ):
        assert redact(f"with {key}") == "with <redacted>"


def test_no_entry_is_lost_where_two_names_are_secrets() -> None:
    shown = redacted({"ghp_0123456789abcdefABCD": 3, "ghp_0123456789abcdefABCE": 5})
    assert sorted(shown.values()) == [3, 5]
    assert all(name.startswith("<redacted>") for name in shown)
