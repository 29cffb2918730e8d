"""Where a model's artefacts are: names and paths resolved per kind of engine, with a digest for the cell id."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import msgspec

from poise.plan.spec import Deployment, Model
from poise.registry import did_you_mean
from poise.types import UsageError

_BUNDLED = Path(__file__).parent.parent / "bundled"
_WHOLE = 1 << 20
"""Files up to this size are hashed whole, larger ones by size and both ends: a 26 GB checkpoint in milliseconds."""


def bundled_names() -> list[str]:
    """Names of the models that come with the package, smallest first."""
    folders = [p.parent for p in _BUNDLED.glob("*/config.json")]
    return [p.name for p in sorted(folders, key=lambda p: (p / "model.safetensors").stat().st_size)]


def bundled_folder(name: str) -> Path:
    folder = _BUNDLED / name
    if not (folder / "config.json").is_file():
        raise UsageError(f"no bundled model {name!r}{did_you_mean(name, bundled_names())}")
    return folder


def sources(model: Model, base_dir: str) -> dict[str, str | dict[str, str]]:
    """`model.source` with bundled names and bare strings resolved to kinds, and local paths made absolute."""
    found: dict[str, str | dict[str, str]] = {}
    for kind, value in model.source.items():
        if kind == "bundled":
            folder = bundled_folder(str(value))
            found["hf"] = str(folder)
            if (folder / "onnx").is_dir():
                found["onnx"] = str(folder / "onnx")
        elif kind == "any":
            found |= _guess(model, str(value), base_dir)
        elif isinstance(value, dict):
            found[kind] = {k: _absolute(v, base_dir) for k, v in value.items()}
        else:
            found[kind] = value if kind == "api" else _absolute(value, base_dir)
    return found


def _guess(model: Model, value: str, base_dir: str) -> dict[str, str | dict[str, str]]:
    path = Path(_absolute(value, base_dir))
    if path.is_dir():
        found: dict[str, str | dict[str, str]] = {}
        if (path / "config.json").is_file():
            found["hf"] = str(path)
        for folder in (path, path / "onnx"):
            if (folder / "genai_config.json").is_file():
                found.setdefault("onnx", str(folder))
        if not found:
            raise UsageError(
                f"model {model.name!r}: {value} holds neither config.json nor genai_config.json; is it a model folder?"
            )
        return found
    if path.is_file():
        if path.suffix == ".gguf":
            return {"gguf": str(path)}
        raise UsageError(f"model {model.name!r}: {value} is a file; give a folder, or a .gguf file")
    if value.startswith((".", "/", "~")):
        raise UsageError(f"model {model.name!r}: no folder {value}")
    return {"hf": value, "api": value}


def _absolute(value: str, base_dir: str) -> str:
    """An existing local path made absolute; anything else (a hub name) as it is."""
    path = Path(value).expanduser()
    path = path if path.is_absolute() else Path(base_dir) / path
    return str(path.resolve()) if path.exists() or value.startswith((".", "/", "~")) else value


def pick(model: Model, deployment: Deployment, reads: tuple[str, ...], base_dir: str) -> tuple[str, str] | None:
    """(kind, path or name) of the model's source that this backend reads, or None where there is none."""
    there = sources(model, base_dir)
    for kind in reads:
        value = there.get(kind)
        if isinstance(value, dict):
            if deployment.quantization in value:
                return kind, value[deployment.quantization]
            if deployment.quantization == "none" and value:
                return kind, next(iter(value.values()))
        elif value is not None:
            return kind, value
    return None


def digest(kind: str, source: str, revision: str | None) -> str:
    """What identifies the artefact in a cell's id: content digest of local files, else name and revision."""
    path = Path(source)
    if kind == "api" or not path.exists():
        return f"{source}@{revision or 'main'}" if kind != "api" else source
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p, path))
    total = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        total.update(f"{file.relative_to(path) if file != path else file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            total.update(stream.read(_WHOLE))
            if size > _WHOLE:
                stream.seek(max(_WHOLE, size - _WHOLE))
                total.update(stream.read(_WHOLE))
    return total.hexdigest()


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def has_chat_template(kinds: dict[str, str | dict[str, str]], used: set[str], revision: str | None) -> bool:
    """Whether the model's tokenizer brings a chat template; a model used through an API only is taken to have one.

    `used`: the kinds of source that the study's engines read; the hub is asked only where one of them would be.
    """
    local = [Path(v) for k, v in kinds.items() if k in ("hf", "onnx") and isinstance(v, str) and Path(v).is_dir()]
    if local:
        return any(_folder_has_template(folder) for folder in local)
    hub = kinds.get("hf")
    return _hub_has_template(hub, revision) if isinstance(hub, str) and "hf" in used else True


def _folder_has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    config = folder / "tokenizer_config.json"
    try:
        return bool(msgspec.json.decode(config.read_bytes()).get("chat_template")) if config.is_file() else False
    except msgspec.DecodeError:
        raise UsageError(f"{config.name} in {folder} is not JSON; the model folder is damaged") from None


def _hub_has_template(name: str, revision: str | None) -> bool:
    try:
        config = hub_file(name, "tokenizer_config.json", revision)
    except ValueError as error:  # no name that the hub could have
        raise UsageError(f"model {name!r}: no such folder, and no name on the hub ({error})") from None
    has = config is not None and _folder_has_template(config.parent)
    return has or hub_file(name, "chat_template.jinja", revision) is not None


def hub_file(name: str, file: str, revision: str | None) -> Path | None:
    """The file from the local cache, else from the hub; None where the repository has none."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    def unavailable(why: str) -> UsageError:
        return UsageError(
            f"model {name!r}: neither a folder here nor to be had from the hub ({why}); "
            "check the name, or download it and give the folder"
        )

    cached = try_to_load_from_cache(name, file, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    if why := _no_way_to(constants.ENDPOINT):  # the client itself would retry for most of a minute
        raise unavailable(why)
    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except Exception as error:
        if type(error).__name__ in ("EntryNotFoundError", "RemoteEntryNotFoundError"):
            return None
        raise unavailable(type(error).__name__) from None


def _no_way_to(endpoint: str) -> str | None:
    """Why a host cannot be reached at all; None where it can, or where a proxy would have to be asked."""
    url = urlsplit(endpoint)
    if getproxies().get(url.scheme):
        return None
    try:
        with socket.create_connection((url.hostname or "", url.port or (443 if url.scheme == "https" else 80)), 5):
            return None
    except OSError as error:
        return f"no connection to {url.hostname}: {error.strerror or error}"
