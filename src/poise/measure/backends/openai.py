"""Any OpenAI-compatible server: requests as bytes before the clock, `send` on it, text and times after it."""

from __future__ import annotations

import os
from time import perf_counter_ns as now
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import Struct, field

from poise.measure.echo import echo_body, read_echo
from poise.measure.presets import Preset, preset_for
from poise.measure.ready import LOADING_S, check_reachable, check_ready
from poise.measure.tokens import visible_to_stop
from poise.measure.wire import Exchange
from poise.measure.wire_answer import NOT_JSON, Steps, answer_steps, body_segments, clean, finished, retry_after_s
from poise.measure.wire_pool import Pool
from poise.measure.wire_target import Target, check_key, parse_target
from poise.plan.spec import Deployment, Model
from poise.plan.tokenizer import Folder, served
from poise.protocols import Answer, Opened, Raw
from poise.types import Failure, Message, Request, UsageError


class OpenAIOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`options` of an openai deployment."""

    stream: bool = True
    endpoint: Literal["auto", "chat", "completions"] = "auto"
    """auto: messages go to chat, a raw prompt to completions (to chat, as one user message, where there is none)."""
    usage: bool | None = None
    """Ask for token counts in the stream; None: as the preset knows."""
    logprobs: bool = False
    api_version: str | None = None
    """Azure's `api-version` for deployment URLs."""
    tokenizer: str | None = None
    """The served model's tokenizer (folder, bundled:NAME or hub name): prompts of given lengths are cut with it, and
    it counts what the server does not. None: the model's own folder, where its source names one here."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    omit: tuple[str, ...] = ()
    """Body fields this server refuses, e.g. temperature."""
    allow_key: tuple[str, ...] = ()
    """`VAR@HOST`: the key in VAR may go to HOST."""
    connect_s: float = 10.0
    ready_s: float | None = None
    """How long a run waits for a server that does not listen yet, or says that it is loading its model.

    By default only for the latter, `LOADING_S`."""
    max_idle_s: float = 4.0
    """Idle connections older than this are replaced before use: common servers hang up after 5 s."""
    max_response_bytes: int = 64 * 1024 * 1024


class Scored(Struct, frozen=True):
    """Texts whose log-probabilities are asked for: of an option from its character in `starts` on, of a window all."""

    texts: list[str]
    starts: list[int] | None = None


class Prepared(Struct):
    """Bytes to write: one payload, or one an option in choice mode."""

    payloads: list[bytes]
    deadline_s: float
    scored: Scored | None = None
    stop: tuple[str, ...] = ()


class OpenAI:
    """Concurrent backend; see CONTRACT §4 for capabilities. After `open`, `capabilities` is what this server has."""

    name = "openai"
    reads = ("api",)
    capabilities: frozenset[str] = frozenset({"stream", "chat", "concurrent", "score", "logprobs", "exact_length"})
    Options: ClassVar[type] = OpenAIOptions

    @staticmethod
    def capabilities_of(deployment: Deployment) -> frozenset[str]:
        """What this deployment's server can do, as far as its preset and options say; nothing is asked of it."""
        named = preset_for(deployment.preset)
        target = parse_target(deployment.base_url, named) if deployment.base_url else None
        preset = preset_for(deployment.preset, target.host) if target else named
        return _capabilities(preset, _options(deployment))

    def open(self, model: Model, deployment: Deployment) -> Opened:
        """Resolve address, key and quirks; UsageError where nothing listens, NotReady where the model is loading."""
        if not deployment.base_url:
            raise UsageError(f"deployment {deployment.name!r} needs a base_url, e.g. http://127.0.0.1:8000/v1")
        self.options = options = _options(deployment)
        named = preset_for(deployment.preset)
        self.target = parse_target(deployment.base_url, named)
        self.preset = preset_for(deployment.preset, self.target.host)
        self.key = _key(deployment, self.target, self.preset, options)
        name = model.source.get("api", model.name)
        if not isinstance(name, str):
            raise UsageError(f"model {model.name!r}: the api source must be one served name")
        self.model = name
        self.capabilities = _capabilities(self.preset, options)
        home = served(options.tokenizer, model.source.get("hf"))
        self.count = Folder(home).count if home else None
        check_reachable(self.target, options.connect_s, options.ready_s)
        loading_s = LOADING_S if options.ready_s is None else options.ready_s
        check_ready(self.target, self.preset, options.connect_s, loading_s)
        self.pool = Pool(self.target, options.max_response_bytes, options.connect_s, options.max_idle_s)
        self.heads = {path: self._head(path) for path in (self.preset.chat, self.preset.completions) if path}
        return Opened(
            settings={
                "preset": self.preset.name,
                "stream": options.stream,
                "endpoint": options.endpoint,
                "prefix_cache": self.preset.prefix_cache,
                "tls": self.target.tls,
                "proxy": self.target.proxy is not None,
            }
        )

    async def warm(self, n: int) -> None:
        """Open connections until `n` are idle, off the clock; UsageError where the server refuses every one."""
        try:
            await self.pool.warm(n)
        except OSError as e:
            raise UsageError(f"cannot connect to {self.target.authority}: {_reason(e)}") from None

    def prepare(self, request: Request) -> Prepared:
        """The complete HTTP request(s) as bytes; UsageError for what this server cannot be asked."""
        if request.kind != "generate":
            return self._prepare_scored(request)
        body = self._sampling(request)
        path = self._path(request)
        if path == self.preset.chat:
            messages = request.messages or (Message("user", request.prompt or ""),)
            body["messages"] = messages
            body[self.preset.chat_max_tokens] = request.max_tokens
            if self.options.logprobs:
                body["logprobs"] = True
        else:
            body["prompt"] = request.prompt
            body["max_tokens"] = request.max_tokens
            if self.options.logprobs:
                body["logprobs"] = 1
        return Prepared([self._payload(path, body)], request.deadline_s, stop=request.stop)

    async def send(self, prepared: Prepared) -> Raw:
        """Write, read, stamp. `Raw.data` holds the exchanges; failures are data, nothing is raised for them."""
        started = now()
        exchanges: list[Exchange] = []
        for payload in prepared.payloads:
            left_s = prepared.deadline_s - (now() - started) / 1e9
            try:
                exchange = await self.pool.request(payload, max(left_s, 0.0))
            except OSError as e:
                error = Failure("connect", clean(f"no connection: {_reason(e)}", self.key))
                return Raw(started, status="error", error=error, done_ns=now(), data=exchanges)
            exchanges.append(exchange)
            if exchange.failure is not None or exchange.code != 200:
                break
        first, last = exchanges[0], exchanges[-1]
        raw = Raw(first.sent_ns, done_ns=last.done_ns, headers_ns=first.headers_ns, data=exchanges)
        if last.failure is not None:
            raw.status, raw.error = "timeout" if last.timed_out else "error", last.failure
        elif last.code != 200:  # enough to decide on a retry; `finish` reads the message
            raw.status, raw.error = "error", Failure("http", f"HTTP {last.code}", last.code, retry_after_s(last))
        return raw

    def finish(self, prepared: Prepared, raw: Raw) -> Answer:
        """The answer; sets `raw.stamps` to one (ns, text) per piece and `raw.status`, `raw.error`."""
        return finished(self.finish_steps(prepared, raw))

    def finish_steps(self, prepared: Prepared, raw: Raw) -> Steps[Answer]:
        """`finish`, giving way on the way."""
        if raw.error is not None and raw.error.kind == "connect":
            return Answer(status=raw.status, error=raw.error)
        raw.stamps, answer = yield from answer_steps(raw.data[-1], self.options.max_response_bytes, self.key)
        if prepared.scored is not None:
            bodies = [b"".join(d for _, d in body_segments(e, self.options.max_response_bytes)[0]) for e in raw.data]
            raw.stamps, answer = [], _scored_answer(prepared.scored, bodies, answer)
        self._complete(prepared, answer)
        if answer.error is not None and raw.error is not None:  # a date was compared with the clock when it came
            answer.error = msgspec.structs.replace(answer.error, retry_after_s=raw.error.retry_after_s)
        raw.status, raw.error, raw.data = answer.status, answer.error, None
        return answer

    def close(self) -> None:
        self.pool.close()

    def _complete(self, prepared: Prepared, answer: Answer) -> None:
        """What the server left out or in: tokens it did not count, a stop string it sent, what its failure means."""
        if prepared.stop:
            answer.pieces = visible_to_stop(answer.pieces, answer.piece_kinds, prepared.stop)
        if self.count is not None and answer.pieces and (answer.usage or {}).get("completion_tokens") is None:
            answer.output_tokens, answer.tokens_by = self.count("".join(answer.pieces)), "tokenizer"
        if answer.error is not None and (hint := self.preset.hints.get(answer.error.kind)):
            answer.error = msgspec.structs.replace(answer.error, message=f"{answer.error.message} ({hint})")

    # -- the request's bytes

    def _path(self, request: Request) -> str:
        chat, completions = self.preset.chat, self.preset.completions
        wanted = self.options.endpoint
        if wanted == "auto":
            wanted = "chat" if request.messages is not None or completions is None else "completions"
        path = chat if wanted == "chat" else completions
        if path is None or (wanted == "completions" and request.prompt is None):
            raise UsageError(f"request {request.id!r} cannot go to {wanted} (preset {self.preset.name})")
        return path

    def _sampling(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model, "temperature": request.temperature, "top_p": request.top_p}
        if request.stop:
            body["stop"] = request.stop
        if self.preset.seed and request.temperature > 0:  # greedy needs none, and some servers stop batching for it
            body["seed"] = request.seed
        if request.min_tokens and self.preset.min_tokens:
            body[self.preset.min_tokens] = request.min_tokens
        if request.min_tokens >= request.max_tokens > 0 and self.preset.ignore_eos:
            body[self.preset.ignore_eos] = True
        body["stream"] = self.options.stream
        ask = self.options.usage if self.options.usage is not None else self.preset.usage == "option"
        if self.options.stream and ask:
            body["stream_options"] = {"include_usage": True}
        return body

    def _prepare_scored(self, request: Request) -> Prepared:
        if "score" not in self.capabilities or self.preset.completions is None or request.prompt is None:
            raise UsageError(f"{self.preset.name} gives no prompt log-probabilities here; try mode: generate")
        if request.windows == "disjoint":
            raise UsageError("disjoint windows need the model's tokenizer; not measurable through a server")
        if request.kind == "choice":
            prompts = request.contexts or (request.prompt,) * len(request.continuations)
            texts = [p + c for p, c in zip(prompts, request.continuations, strict=True)]
            scored = Scored(texts, [len(p) for p in prompts])
        else:  # one window: without the model's tokenizer a text that is too long for it cannot be cut
            scored = Scored([request.prompt])
        payloads = [self._payload(self.preset.completions, echo_body(self.model, t)) for t in scored.texts]
        return Prepared(payloads, request.deadline_s, scored)

    def _payload(self, path: str, body: dict[str, Any]) -> bytes:
        body = {**body, **self.preset.plain, **self.preset.no_cache, **self.options.extra_body}
        for name in self.options.omit:
            body.pop(name, None)
        data = msgspec.json.encode(body)
        return b"%scontent-length: %d\r\n\r\n%s" % (self.heads[path], len(data), data)

    def _head(self, path: str) -> bytes:
        query = f"?api-version={self.options.api_version}" if self.options.api_version else ""
        lines = [
            f"POST {self.target.line_path(path + query)} HTTP/1.1",
            f"host: {self.target.authority}",
            "content-type: application/json",
            f"accept: {'text/event-stream, application/json' if self.options.stream else 'application/json'}",
            "accept-encoding: identity",
            "user-agent: poise",
        ]
        if self.key:
            lines.append(
                f"api-key: {self.key}" if self.preset.auth == "api-key" else f"authorization: Bearer {self.key}"
            )
        if self.target.proxy_auth and not self.target.tls:
            lines.append(f"proxy-authorization: {self.target.proxy_auth}")
        return ("\r\n".join(lines) + "\r\n").encode()


def _options(deployment: Deployment) -> OpenAIOptions:
    try:
        return msgspec.convert(deployment.options, OpenAIOptions)
    except msgspec.ValidationError as e:
        raise UsageError(f"options of deployment {deployment.name!r}: {e}") from None


def _capabilities(preset: Preset, options: OpenAIOptions) -> frozenset[str]:
    found = {"chat", "concurrent"}
    if options.stream:
        found.add("stream")
    if options.logprobs and preset.logprobs:
        found.add("logprobs")
    if preset.echo_logprobs and options.endpoint != "chat":
        found.add("score")
    if preset.exact_length:
        found.add("exact_length")
    return frozenset(found)


def _key(deployment: Deployment, target: Target, preset: Preset, options: OpenAIOptions) -> str | None:
    if deployment.key_env is None:
        return None
    key = os.environ.get(deployment.key_env, "").strip()
    if not key:
        raise UsageError(f"deployment {deployment.name!r}: the environment variable {deployment.key_env} is not set")
    if not key.isascii() or not key.isprintable():
        raise UsageError(f"the key in {deployment.key_env} has characters that no HTTP header may carry")
    check_key(deployment.key_env, target, preset, options.allow_key)
    return key


def _scored_answer(scored: Scored, bodies: list[bytes], last: Answer) -> Answer:
    """Log-probabilities of every option, or of the whole text, or the failure that ended the series."""
    if last.error is not None:
        return Answer(status=last.status, error=last.error)
    try:
        echoes = [read_echo(body, text) for body, text in zip(bodies, scored.texts, strict=True)]
        if scored.starts is None:
            return Answer(token_logprobs=echoes[0].scored(), usage=last.usage)
        options = list(zip(echoes, scored.starts, map(len, scored.texts), strict=True))
        logprobs = [e.between(start, end) for e, start, end in options]
    except (ValueError, *NOT_JSON) as e:
        return Answer(status="error", error=Failure("parse", clean(str(e), None)))
    greedy = [g for e, start, end in options if (g := e.greedy(start, end)) is not None]
    said = len(greedy) == len(options)
    return Answer(option_logprobs=logprobs, option_greedy=greedy if said else None, usage=last.usage)


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
