"""Whether a model has learned a task, rather than the form of its answers.

A loss falls already where a model learns how a task's answers look. Three numbers beside it tell more:

blind_loss: the loss of a predictor that never reads a prompt. It sees the task's other documents' answers and
knows how often each token stood at each place. Below it, a model must have read the prompt. It takes many
answers to know a form: of a file's tasks it sees all that are there, of a corpus's those that are scored.
own_over_other: log p(own answer | prompt) - log p(another document's answer | prompt), in nats. The others
are given in a ring, so each answer is once the own and once the other one, and what makes an answer likely
under any prompt leaves the mean.
own_first: the share of documents whose own answer is likelier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log

from smartdpp.models.tokens import encode
from smartdpp.types import Model, Row


def contrasted(model: Model, rows: list[Row], context: int, seen: Sequence[Row] = ()) -> list[Row]:
    """A task's documents, each with the answer of the next one that has another, as ``other``, and the
    ``blind_nll`` of its own. A task whose documents all have one answer, or are conversations, is left as it
    is. Another answer must fit into ``context`` tokens beside the prompt: a document for which none does is
    left out. ``seen`` are more documents of the task, whose answers the predictor without a prompt sees."""
    answers = [row["response"] for row in rows]
    if len(set(answers)) < 2 or any(row.get("messages") is not None for row in rows):
        return rows
    tokenizer = model.tokenizer()

    def other(i: int) -> str | None:
        ring = (answer for answer in [*answers[i + 1 :], *answers[:i]] if answer != answers[i])
        return next((one for one in ring if fits(rows[i]["prompt"], one)), None)

    def fits(prompt: str, answer: str) -> bool:
        return len(encode(tokenizer, model.format, prompt, answer).ids) <= context

    scored = {row["id"] for row in rows}
    known = [*rows, *(row for row in seen if row["id"] not in scored and row.get("messages") is None)]
    encoded = [encode(tokenizer, model.format, row["prompt"], row["response"]) for row in known]
    blind = blind_nll([one.ids[one.n_prompt : -1] for one in encoded], len(tokenizer))
    return [
        row | {"other": found, "blind_nll": nll}
        for i, (row, nll) in enumerate(zip(rows, blind, strict=False))
        if (found := other(i)) is not None
    ]


def blind_nll(answers: Sequence[Sequence[int]], vocabulary: int) -> list[float]:
    """nll in nats of each answer's tokens by the other answers alone.

    p(token at place t) = (c_t + p(token)) / (n_t + 1), where c_t of the n_t other answers that are long
    enough have it there, and p(token) = (c + 1 / V) / (n + 1), c of all n tokens of the others: Dirichlet
    smoothing with one pseudo-count at each level, backing off from place to task to vocabulary.
    """
    tokens = Counter(token for answer in answers for token in answer)
    n = sum(map(len, answers))
    longest = max(map(len, answers), default=0)
    places = [Counter(answer[t] for answer in answers if len(answer) > t) for t in range(longest)]
    found = []
    for answer in answers:
        own, nll = Counter(answer), 0.0
        for t, token in enumerate(answer):
            anywhere = (tokens[token] - own[token] + 1 / vocabulary) / (n - len(answer) + 1)
            nll -= log((places[t][token] - 1 + anywhere) / places[t].total())
        found.append(nll)
    return found
