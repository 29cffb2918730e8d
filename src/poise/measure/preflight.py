"""What can be known before anything runs: absent extras, unset keys, unreachable servers, models too large."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import structs

from poise import registry
from poise.measure import host
from poise.measure.ready import NotReady
from poise.plan.build import Plan
from poise.plan.spec import Deployment, Model
from poise.plan.weights import model_bytes
from poise.protocols import Backend
from poise.types import PoiseError, UsageError

_RESERVE = 1.2
"""Memory asked for, as a multiple of the weights: activations, caches and the interpreter come on top."""
POLL_S = 0.5

Waiting = Callable[[str], None]
"""Told once of each server that is waited for."""


def problems(plan: Plan, *, allow_code: bool = False, waiting: Waiting | None = None) -> dict[tuple[str, str], str]:
    """(model, deployment) -> one sentence why it cannot run here. Pairs without an entry can, as far as is known.

    With `waiting`, a server that is loading its model gets the time its deployment grants.
    """
    found: dict[tuple[str, str], str] = {}
    endpoints: dict[str, str | None] = {}
    models = {m.name: m for m in plan.study.models}
    deployments = {d.name: d for d in plan.study.deployments}
    for (model, name), source in plan.sources.items():
        deployment = deployments[name]
        backend = registry.lookup("backend", deployment.backend, allow_code)
        if name not in endpoints:
            endpoints[name] = _environment(deployment, backend)
        reason = endpoints[name] or _backend(models[model], source, deployment, backend, allow_code, waiting)
        if reason is None and "concurrent" not in backend.capabilities:
            reason = _memory(source[1], deployment)
        if reason:
            found[model, name] = reason
    return found


def _environment(deployment: Deployment, backend: type[Backend]) -> str | None:
    """Reasons that concern the deployment alone."""
    if deployment.python is None and (absent := registry.absent(backend)):
        return f"{', '.join(absent)} not installed: {registry.install(backend)}"
    if deployment.key_env and not os.environ.get(deployment.key_env):
        return f"the environment variable {deployment.key_env} (key_env) is not set; export it first"
    if deployment.server is not None:
        return "servers that poise starts itself are not available yet; start it and give its base_url"
    return None


def _backend(
    model: Model,
    source: tuple[str, str],
    deployment: Deployment,
    backend: type[Backend],
    allow_code: bool,
    waiting: Waiting | None,
) -> str | None:
    """What the backend itself can tell without loading anything: its `check`.

    A client has none: its `open` only resolves addresses and knocks.
    """
    resolved = structs.replace(model, source={source[0]: source[1]})
    try:
        if hasattr(backend, "check"):
            backend.check(resolved, deployment, allow_code)
        elif "concurrent" in backend.capabilities:
            client = backend()
            open_ready(client, resolved, deployment, waiting)
            client.close()
    except PoiseError as error:
        return str(error)
    return None


def open_ready(client: Any, model: Model, deployment: Deployment, waiting: Waiting | None) -> None:
    """Open a client; with `waiting`, once its server has loaded the model, as long as the deployment grants."""
    started = time.monotonic()
    told = False
    while True:
        try:
            client.open(model, deployment)
            return
        except NotReady as error:
            if waiting is None:
                raise
            if time.monotonic() - started > error.limit_s:
                raise UsageError(f"{error} (waited {error.limit_s:g} s, see options.ready_s)") from None
            if not told:
                waiting(f"{error}; waiting up to {error.limit_s:g} s")
            told = True
        time.sleep(POLL_S)


def _memory(source: str, deployment: Deployment) -> str | None:
    if not Path(source).exists() or deployment.options.get("device_map"):  # spread over what there is
        return None
    needed = model_bytes(source, deployment.dtype, deployment.quantization)
    there = host.memory_available(deployment.device)
    if needed is not None and there is not None and needed * _RESERVE > there:
        return (
            f"needs about {needed * _RESERVE / 1e9:.1f} GB of memory, {there / 1e9:.1f} GB are free; "
            "free some, or take a smaller model, dtype or quantization"
        )
    return None
