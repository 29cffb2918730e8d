"""Prompts for a server cut to exact token lengths, in the tokenizer of the model it serves.

Engines in process cut token ids; a server takes text, so here the text is found that its tokenizer makes so many tokens
of: cut where the last token ends, and where the cut makes other tokens of the rest, back to a whole word and filled up
with short ones. What the server puts round a text (chat template, begin of text) counts, as it does in its `usage`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate

from msgspec import structs

from poise.plan.tokenizer import Folder
from poise.types import Message, Request, UsageError

_TRIES = 6
_FILL = "a", "I", "to", "of", "in", "the", "and", "one", "two", "x", "s", "1", "."
"""Short words: in any vocabulary some of them are one token, some two."""


class Fitter:
    """Cuts requests of given prompt lengths to them; parts that several prompts share stay the same in all of them."""

    def __init__(self, folder: Folder, chat: bool) -> None:
        self.folder, self.chat = folder, chat
        self._shared = lru_cache(maxsize=4096)(self._part)

    @property
    def sha(self) -> str:
        """What the fitted texts depend on."""
        return f"{self.folder.sha} {'chat' if self.chat else 'raw'}"

    def fit(self, request: Request, parts: Sequence[int] = ()) -> Request:
        """The request with as many prompt tokens as it asks for; as it is if it asks for none.

        `parts`: tokens of the stretches of its text, a word a token, each of which is cut by itself.
        """
        wanted, text = request.prompt_tokens, _text(request)
        if wanted is None or not text:
            return request
        words = text.split(" ")
        parts = parts if sum(parts) == len(words) else (len(words),)
        ends = list(accumulate(parts))
        texts = [" ".join(words[end - n : end]) for n, end in zip(parts, ends)]
        target = wanted - self._round(request)
        if target < 1:
            raise UsageError(
                f"a prompt of {wanted} tokens is no longer than what stands round its text ({wanted - target} tokens: "
                "chat template, begin of text); ask for longer prompts, or set the model's format to raw"
            )
        made, fitted = request, texts
        for _ in range(_TRIES):  # joined to each other or to the template, texts may make other tokens than alone
            fitted = list(self._cut(texts, parts, target))
            made = _with_text(request, " ".join(fitted))
            if not (off := wanted - self.count(made)):
                break
            target = max(1, target + off)
        if request.shared_chars is not None:
            shared = fitted[0] if len(fitted) > 1 else ""
            made = structs.replace(made, shared_chars=len(shared) + 1 if shared else 0)
        return made

    def count(self, request: Request) -> int:
        """Prompt tokens of a request as its server counts them."""
        if (messages := self._messages(request)) and (render := self.folder.render) is not None:
            try:
                text = render(messages)
            except Exception as error:  # a template is foreign code
                raise UsageError(
                    f"the chat template of {self.folder.home} failed: {error}; set the model's format to raw"
                ) from None
            return self.folder.count(text)
        return self.folder.count(_text(request), special=True)

    def _messages(self, request: Request) -> Sequence[Message]:
        return request.messages or ([Message("user", request.prompt or "")] if self.chat else ())

    def _round(self, request: Request) -> int:
        """Tokens that stand round the text."""
        return self.count(_with_text(request, "one")) - self.folder.count("one")

    def _cut(self, texts: Sequence[str], parts: Sequence[int], target: int) -> Iterator[str]:
        """Each part as long as it should be, the last ones shorter where all together are to be shorter."""
        for i, (text, tokens) in enumerate(zip(texts, parts)):
            tokens = target if i == len(texts) - 1 else min(tokens, target)
            if tokens < 1:
                return
            target -= tokens
            yield (self._part if i == len(texts) - 1 else self._shared)(text, tokens, i > 0)

    def _part(self, text: str, tokens: int, follows: bool) -> str:
        """The beginning of the text that is so many tokens long; `follows`: it stands after a blank."""
        lead = "one " if follows else ""
        before = self.folder.count(lead.rstrip()) if follows else 0
        ends = self._ends(lead + text)
        while (known := len(ends)) < before + tokens:  # words that join to one token: more of them
            text = f"{text} {text}"
            ends = self._ends(lead + text)
            if len(ends) == known:
                raise UsageError(
                    f"the tokenizer in {self.folder.home} makes {known} tokens of English words however many there "
                    "are; name that of the served model"
                )
        cut = text[: max(ends[before + tokens - 1] - len(lead), 0)].rstrip()

        def length(candidate: str) -> int:
            return self.folder.count(lead + candidate) - before

        if cut and length(cut) == tokens:
            return cut
        whole = cut.rpartition(" ")[0] or cut[:1]
        while " " in whole and length(whole) > tokens:
            whole = whole.rpartition(" ")[0]
        following = text[len(whole) :].lstrip().split(" ")[0]
        fillers = [*(following[:n] for n in range(len(following), 0, -1)), *_FILL]
        left = tokens - length(whole)
        while left > 0:
            last = whole.rpartition(" ")[2]
            known = self.folder.count(last)
            sizes = {fill: self.folder.count(f"{last} {fill}") - known for fill in fillers}
            best = max((f for f, size in sizes.items() if 0 < size <= left), key=sizes.__getitem__, default=None)
            if best is None:
                break
            whole, left = f"{whole} {best}", left - sizes[best]
        return whole

    def _ends(self, text: str) -> list[int]:
        """Where each token's characters end."""
        return [end for _, end in self.folder.encode(text).offsets]


def _text(request: Request) -> str:
    return (request.messages[-1].content if request.messages else request.prompt) or ""


def _with_text(request: Request, text: str) -> Request:
    if not request.messages:
        return structs.replace(request, prompt=text)
    *before, last = request.messages
    return structs.replace(request, messages=(*before, Message(last.role, text)))
