"""What in-process engines share around their model step: token ids from a request, the stamped loop, the answer.

`prepare` and `finish` are off the clock. `decode` is on it: an engine gives a `step` that puts the next token of every
row on the host; here each is stamped, and rows end at end-of-text, a stop string, their length, or their deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter_ns

from poise.counted import counted
from poise.measure.tokens import Codec, cut_at_stop, has_stop, split_pieces, stop_suspects
from poise.plan.spec import Model
from poise.protocols import Answer, Raw
from poise.types import Failure, Request, UsageError

Ranked = tuple[list[float], bool]
"""A continuation's log-probabilities, token by token, and whether greedy decoding would write just that."""


@dataclass(slots=True)
class Prepared:
    """A request as token ids. With `error` set nothing is run."""

    request: Request
    ids: list[int] = field(default_factory=list)
    contexts: list[list[int]] = field(default_factory=list)
    """Choice: the distinct prompts' tokens (`ids` is the first's)."""
    options: list[list[int]] = field(default_factory=list)
    """Choice: the tokens of each continuation."""
    after: list[int] = field(default_factory=list)
    """Choice: which of `contexts` stands before each continuation."""
    windows: list[tuple[int, int, int]] = field(default_factory=list)
    """Perplexity: (first, first scored, end) positions in `ids`."""
    cut: int = 0
    """Tokens of the prompt that were left out because the context is too short for them."""
    ends: frozenset[int] = frozenset()
    """Ids after which a row may be over: end-of-text, and tokens that can complete a stop string."""
    rendered: str | None = None
    error: Failure | None = None

    @property
    def exact(self) -> bool:
        """Whether the output length is fixed: then nothing but the length ends a row."""
        return 0 < self.request.min_tokens >= self.request.max_tokens


def source_of(model: Model, kind: str, quantization: str) -> str:
    """Where this engine finds the model; a mapping is read by the deployment's quantisation."""
    source = model.source.get(kind)
    if isinstance(source, dict):
        if quantization not in source:
            raise UsageError(
                f"model {model.name!r} has no {kind} source for {quantization!r}; it has: {', '.join(source)}"
            )
        source = source[quantization]
    if not source:
        raise UsageError(f"model {model.name!r} has no {kind} source; give one: source: {{{kind}: …}}")
    return source


# ---------------------------------------------------------------- off the clock, before


def prepare(request: Request, codec: Codec) -> Prepared:
    """Token ids of a request; what cannot be asked (no template, too long, empty) becomes `Prepared.error`."""
    text, rendered = request.prompt or "", None
    if request.messages is not None:
        if codec.render is None:
            return _refuse(request, "template", "the model has no chat template; set the model's format to raw")
        try:
            text = rendered = codec.render(request.messages)
        except Exception as error:  # a template is foreign code: whatever it raises is this request's failure
            return _refuse(request, "template", f"the chat template failed: {error}")
    harness = request.encoded_as == "lm-eval"
    special = rendered is None or harness
    if harness:
        codec = replace(codec, encode=partial(_encode_once, codec))
    try:
        prepared = _PREPARE[request.kind](request, text, special, codec)
    except _Unaskable as reason:
        return _refuse(request, *reason.args)
    prepared.rendered = rendered
    return prepared


def _encode_once(codec: Codec, text: str, special: bool) -> list[int]:
    """The tokens of a text that may begin with the start token itself."""
    ids = codec.encode(text, special)
    return ids[1:] if codec.bos is not None and ids[:2] == [codec.bos, codec.bos] else ids


class _Unaskable(Exception):
    """(kind, message) of the failure that stands for the answer."""


def _refuse(request: Request, kind: str, message: str) -> Prepared:
    return Prepared(request, error=Failure(kind, message))


def _generate(request: Request, text: str, special: bool, codec: Codec) -> Prepared:
    ids = codec.encode(text, special)
    if request.prompt_tokens is not None and ids:
        ids = (ids * (request.prompt_tokens // len(ids) + 1))[: request.prompt_tokens]
    _require(bool(ids), "empty", "the prompt has no tokens")
    _require(request.max_tokens > 0, "empty", "max_tokens is 0: nothing to generate")
    ids, cut = _shortened(ids, request.max_tokens, request, codec)
    prepared = Prepared(request, ids, cut=cut)
    if not prepared.exact:
        prepared.ends = codec.eos | stop_suspects(codec, request.stop)
    return prepared


def _choice(request: Request, text: str, special: bool, codec: Codec) -> Prepared:
    """Prompt and continuation are encoded together and cut at the prompt's length, as lm-evaluation-harness does.

    Trailing blanks of the prompt belong to the continuation, where tokenizers keep them.
    """
    _require(bool(request.continuations), "empty", "a choice needs continuations")
    prompts = request.contexts or (text,) * len(request.continuations)
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    stems = [codec.encode(prompt.rstrip() if special else prompt, special) for prompt in places]
    after = [places[prompt] for prompt in prompts]
    options = [codec.encode(p + c, special)[len(stems[i]) :] for p, c, i in zip(prompts, request.continuations, after)]
    empty = next((c for c, option in zip(request.continuations, options) if not option), None)
    _require(empty is None, "empty", f"the continuation {empty!r} has no tokens of its own")
    if not all(stems) and codec.start is not None:
        stems = [stem or [codec.start] for stem in stems]
    _require(all(stems), "empty", "the prompt has no tokens and the model has no token to begin with")
    # the last token is never fed: it needs no position of its own
    fitted = [_shortened(stems[i], len(option) - 1, request, codec) for option, i in zip(options, after)]
    cut = max(cut for _, cut in fitted)
    if cut:  # longer continuations leave less of the same prompt
        kept = list(dict.fromkeys(tuple(stem) for stem, _ in fitted))
        stems, after = [list(stem) for stem in kept], [kept.index(tuple(stem)) for stem, _ in fitted]
    return Prepared(request, stems[0], contexts=stems, options=options, after=after, cut=cut)


def _windows(request: Request, text: str, special: bool, codec: Codec) -> Prepared:
    """Windows in which every token is scored once.

    Overlapping: of the context's length, each moved by half of it, so that every token but the first ones has at
    least half a context before it. Disjoint: only the last one reaches back over tokens that are scored already,
    and the first token is predicted from the start token, as lm-evaluation-harness cuts.
    """
    ids = codec.encode(text, special)
    disjoint = request.windows == "disjoint"
    if disjoint and codec.start is not None:
        ids = [codec.start, *ids]
    elif codec.bos is not None and ids[:1] != [codec.bos]:
        ids = [codec.bos, *ids]
    _require(len(ids) > 1, "empty", "the text has no token that can be scored")
    size = codec.context or len(ids)
    size, step = (size + 1, size) if disjoint else (size, size // 2)
    windows, scored = [], 1
    while scored < len(ids):
        end = min(len(ids), max(size, scored + step))
        windows.append((max(0, end - size), scored, end))
        scored = end
    return Prepared(request, ids, windows=windows)


_PREPARE = {"generate": _generate, "choice": _choice, "windows": _windows}


def _require(ok: bool, kind: str, message: str) -> None:
    if not ok:
        raise _Unaskable(kind, message)


def _shortened(prompt: list[int], output: int, request: Request, codec: Codec) -> tuple[list[int], int]:
    """The prompt's tokens that fit with those to come, and how many do not; where it may not be cut it must fit."""
    over = len(prompt) + output - codec.context if codec.context is not None else 0
    may_cut = request.encoded_as == "lm-eval" and over < len(prompt)
    _require(
        over <= 0 or may_cut,
        "context",
        f"{len(prompt)} prompt tokens and {output} to come do not fit into the model's context of {codec.context}",
    )
    return (prompt[over:], over) if over > 0 else (prompt, 0)


# ---------------------------------------------------------------- on the clock


def run(batch: Sequence[Prepared], engine: Callable[[list[Prepared], int], list[Raw]]) -> list[Raw]:
    """Hand what can be asked to the engine; what cannot, and whatever the engine raises, comes back as error raws."""
    sent = perf_counter_ns()
    asked = [prepared for prepared in batch if prepared.error is None]
    try:
        answered = iter(engine(asked, sent) if asked else [])
    except Exception as error:  # a failing engine is data: these requests failed, the run goes on
        failure = Failure("memory" if "out of memory" in str(error).lower() else "engine", _first_line(error))
        answered = iter([_failed(sent, failure) for _ in asked])
    return [_failed(sent, prepared.error) if prepared.error else next(answered) for prepared in batch]


def scored(sent_ns: int, logprobs: list[Ranked] | list[float]) -> Raw:
    """The raw of a request that was scored, not generated."""
    return Raw(sent_ns=sent_ns, done_ns=perf_counter_ns(), data=logprobs, clock="engine")


def _failed(sent_ns: int, failure: Failure) -> Raw:
    return Raw(sent_ns=sent_ns, done_ns=perf_counter_ns(), status="error", error=failure, clock="engine")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:500]


@dataclass(slots=True)
class _Row:
    index: int
    prepared: Prepared
    raw: Raw
    limit: int
    deadline_ns: int


def decode(batch: Sequence[Prepared], step: Callable[[], list[int]], sent_ns: int, codec: Codec) -> list[Raw]:
    """Call `step` (next token id of every row, on the host) until every row is over, and stamp each token.

    A row that is over collects no more stamps, though the engine may go on computing it with the batch.
    """
    rows = [
        _Row(i, p, Raw(sent_ns=sent_ns, clock="engine"), p.request.max_tokens, sent_ns + _ns(p.request.deadline_s))
        for i, p in enumerate(batch)
    ]
    live, count = list(rows), 0
    while live:
        tokens = step()
        now = perf_counter_ns()
        count += 1
        maybe = []
        for row in live:
            token = tokens[row.index]
            row.raw.stamps.append((now, token))
            if token in row.prepared.ends or count >= row.limit or now >= row.deadline_ns:
                maybe.append(row)
        for row in maybe:
            if _over(row, count, now, codec):
                row.raw.done_ns = now
                live.remove(row)
    return [row.raw for row in rows]


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _over(row: _Row, count: int, now: int, codec: Codec) -> bool:
    request, stamps = row.prepared.request, row.raw.stamps
    if count >= row.limit or stamps[-1][1] in codec.eos & row.prepared.ends:
        return True
    suspect = request.stop and count > request.min_tokens and stamps[-1][1] in row.prepared.ends
    if suspect and has_stop(codec, [token for _, token in stamps[request.min_tokens :]], request.stop):
        return True
    if now >= row.deadline_ns:
        row.raw.status = "timeout"
        row.raw.error = Failure(
            "timeout", f"the deadline of {request.deadline_s:g} s passed after {counted(count, 'token')}"
        )
        return True
    return False


# ---------------------------------------------------------------- off the clock, after


def finish(prepared: Prepared, raw: Raw, codec: Codec) -> Answer:
    """The answer of a raw: pieces of text per stamp, token counts, log-probabilities."""
    answer = Answer(status=raw.status, error=raw.error, rendered=prepared.rendered)
    if raw.status == "error":
        return answer
    if prepared.request.kind == "generate":
        return _finish_generate(prepared, raw, codec, answer)
    scored = raw.data or []
    answer.usage = {"prompt_tokens": sum(map(len, prepared.contexts or [prepared.ids])), "completion_tokens": 0}
    answer.usage |= _cut(prepared)
    if prepared.request.kind == "choice":
        answer.option_logprobs = [logprobs for logprobs, _ in scored]
        answer.option_greedy = [greedy for _, greedy in scored]
    else:
        answer.token_logprobs = scored
        answer.usage |= {"scored_tokens": len(scored), "windows": len(prepared.windows)}
        if codec.bos is None and prepared.request.windows == "overlapping":
            answer.usage["unscored_tokens"] = 1
    return answer


def _finish_generate(prepared: Prepared, raw: Raw, codec: Codec, answer: Answer) -> Answer:
    request, ids = prepared.request, [token for _, token in raw.stamps]
    pieces, stopped = split_pieces(codec.decode, ids), False
    if request.stop and not prepared.exact:
        pieces, stopped = cut_at_stop(pieces, request.stop, request.min_tokens)
    answer.pieces = pieces
    answer.output_tokens = max((i for i, piece in enumerate(pieces, 1) if piece), default=0)
    answer.usage = {"prompt_tokens": len(prepared.ids), "completion_tokens": len(ids)} | _cut(prepared)
    if raw.status == "ok":
        ended = bool(ids) and ids[-1] in codec.eos & prepared.ends
        answer.finish_reason = "stop" if stopped or ended else "length"
    return answer


def _cut(prepared: Prepared) -> dict[str, int]:
    return {"cut_tokens": prepared.cut} if prepared.cut else {}
