"""A conversation as the requests it is made of: each turn asks with the model's own earlier answers before it.

chat: the earlier answers are assistant messages. raw: as shots are written, text, a blank, the answer, a blank line,
the next turn's text (CONTRACT §2).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from poise.types import Message, Request


def turn(request: Request, answers: Sequence[str]) -> Request:
    """The turn that follows these answers, as a request of its own; a request without turns is its only one."""
    if not request.turns:
        return request
    part = len(answers)
    said = request.turns[:part]
    asked = structs.replace(request, id=request.parts[part], part=part, turns=())
    if request.messages is None:
        text = request.prompt or ""
        for answer, question in zip(answers, said, strict=True):
            text += f" {answer.strip()}\n\n{question}"
        return structs.replace(asked, prompt=text)
    messages = list(request.messages)
    for answer, question in zip(answers, said, strict=True):
        messages += [Message("assistant", answer), Message("user", question)]
    return structs.replace(asked, messages=tuple(messages))
