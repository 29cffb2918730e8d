"""What can be known before anything runs: absent extras, unset keys, unreachable servers, models too large."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from msgspec import structs

from poise import registry
from poise.measure import host
from poise.plan.build import Plan
from poise.plan.spec import Deployment, Model
from poise.plan.weights import model_bytes
from poise.types import PoiseError

_RESERVE = 1.2
"""Memory asked for beyond the weights: activations, caches, the interpreter."""


def problems(plan: Plan, *, allow_code: bool = False) -> dict[tuple[str, str], str]:
    """(model, deployment) -> one sentence why it cannot run here. Pairs without an entry can, as far as is known."""
    found: dict[tuple[str, str], str] = {}
    endpoints: dict[str, str | None] = {}
    models = {m.name: m for m in plan.study.models}
    deployments = {d.name: d for d in plan.study.deployments}
    for (model, name), source in plan.sources.items():
        deployment = deployments[name]
        backend = registry.lookup("backend", deployment.backend, allow_code)
        if name not in endpoints:
            endpoints[name] = _environment(deployment, backend)
        reason = endpoints[name] or _backend(models[model], source, deployment, backend, allow_code)
        if reason is None and "concurrent" not in backend.capabilities:
            reason = _memory(source[1], deployment)
        if reason:
            found[model, name] = reason
    return found


def _environment(deployment: Deployment, backend: Any) -> str | None:
    """Reasons that concern the deployment alone."""
    if deployment.python is None:
        missing = [m for m in getattr(backend, "requires", ()) if importlib.util.find_spec(m) is None]
        if missing:
            extra = getattr(backend, "extra", deployment.backend)
            return f"{', '.join(missing)} not installed: pip install 'poise[{extra}]'"
    if deployment.key_env and not os.environ.get(deployment.key_env):
        return f"the environment variable {deployment.key_env} (key_env) is not set"
    if deployment.server is not None:
        return "servers that poise starts itself are not available yet; start it and give its base_url"
    return None


def _backend(
    model: Model, source: tuple[str, str], deployment: Deployment, backend: Any, allow_code: bool
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
            client.open(resolved, deployment)
            client.close()
    except PoiseError as error:
        return str(error)
    return None


def _memory(source: str, deployment: Deployment) -> str | None:
    if not Path(source).exists():
        return None
    needed = model_bytes(source, deployment.dtype, deployment.quantization)
    there = host.memory_available()
    if needed is not None and there is not None and needed * _RESERVE > there:
        return f"needs about {needed * _RESERVE / 1e9:.1f} GB of memory, {there / 1e9:.1f} GB are free"
    return None
