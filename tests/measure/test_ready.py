"""A server that is loading its model is waited for, as long as its deployment says; any other one is left alone."""

import contextlib
import socket
import threading

import pytest

from poise.measure import preflight
from poise.measure.presets import PRESETS
from poise.measure.ready import health_path
from poise.measure.wire_target import parse_target
from poise.plan.build import plan
from poise.plan.read import load_study

LOADING = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 7\r\n\r\nLoading"
READY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@contextlib.contextmanager
def server(*replies, path=None):
    """(base URL, request lines seen): reply k to the k-th request, the last to all later ones; None hangs up."""
    seen, stop = [], threading.Event()

    def serve():
        while not stop.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                connection.settimeout(5)
                with connection:
                    asked = connection.recv(65536)
                    if not asked:  # only knocked
                        continue
                    reply = replies[min(len(seen), len(replies) - 1)]
                    seen.append(asked.split(b"\r\n")[0].decode())
                    if reply is not None:
                        connection.sendall(reply)

    with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as listening:
        listening.bind(str(path) if path else ("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(0.05)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"unix:{path}" if path else f"http://127.0.0.1:{listening.getsockname()[1]}", seen
        finally:
            stop.set()
            thread.join()


def looked_at(url, preset="llama-server", waiting=None, **options):
    study = {
        "models": [{"name": "m", "source": {"api": "m"}}],
        "deployments": [{"name": "d", "backend": "openai", "base_url": url, "preset": preset, "options": options}],
        "tasks": [{"task": "synthetic", "limit": 1}],
    }
    return preflight.problems(plan(load_study(study, name="t")), waiting=waiting)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(preflight, "POLL_S", 0.01)


@pytest.mark.parametrize("unix", [False, True])
def test_a_run_waits_until_the_model_is_loaded_and_says_so_once(unix, tmp_path):
    told = []
    with server(LOADING, LOADING, LOADING, READY, path=tmp_path / "s" if unix else None) as (url, seen):
        assert looked_at(url, waiting=told.append) == {}
    assert seen == ["GET /health HTTP/1.1"] * 4
    assert len(told) == 1 and "503" in told[0] and "waiting up to 300 s" in told[0]


def test_it_waits_no_longer_than_its_deployment_says():
    with server(LOADING) as (url, seen):
        [why] = looked_at(url, waiting=lambda _: None, ready_s=0.1).values()
    assert len(seen) > 1 and "loading" in why and "options.ready_s" in why


def test_a_plan_does_not_wait():
    with server(LOADING) as (url, seen):
        [why] = looked_at(url).values()
    assert len(seen) == 1 and "503 at /health" in why


@pytest.mark.parametrize("unix", [False, True])
def test_a_server_that_does_not_listen_yet_is_waited_for_where_a_user_says_so(unix, tmp_path):
    told, path = [], tmp_path / "s" if unix else None
    with socket.socket() as taken:  # bound, not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"unix:{path}" if unix else f"http://127.0.0.1:{taken.getsockname()[1]}"
        [why] = looked_at(url, waiting=pytest.fail).values()
        assert "-O ready_s=" in why and "start it" in why
        [why] = looked_at(url, waiting=lambda _: None, ready_s=0.1).values()
        assert "waited 0.1 s" in why

        def listen(what):
            told.append(what)
            starting = contextlib.ExitStack()
            if unix:
                starting.enter_context(server(READY, path=path))
            else:
                taken.listen()
            stop.push(starting)

        with contextlib.ExitStack() as stop:
            assert looked_at(url, waiting=listen, preset="generic", ready_s=30) == {}
    assert len(told) == 1 and "no server answers" in told[0] and "waiting up to 30 s" in told[0]


@pytest.mark.parametrize(
    "reply",
    [
        READY,
        b"HTTP/1.1 401 Unauthorized\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x00\xff",
        b"",
        None,
    ],
)
def test_any_other_answer_is_left_to_the_requests(reply):
    with server(reply) as (url, seen):
        assert looked_at(url, waiting=pytest.fail) == {}
    assert len(seen) == 1


def test_a_server_that_does_not_answer_in_time_is_left_to_the_requests():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert looked_at(url, waiting=pytest.fail, connect_s=0.1) == {}


def test_presets_without_a_health_path_are_not_asked():
    with server(LOADING) as (url, seen):
        assert looked_at(url, preset="generic") == {}
    assert seen == []


@pytest.mark.parametrize(
    ("preset", "url", "path"),
    [
        ("vllm", "http://h:1", "/health"),
        ("vllm", "http://h:1/v1", "/health"),
        ("vllm", "http://h:1/models/a/v1", "/models/a/health"),
        ("vllm", "http://h:1/elsewhere", "/health"),
        ("llama-cpp-python", "http://h:1/v1", "/v1/models"),
        ("ollama", "unix:/run/o.sock", "/api/version"),
    ],
)
def test_where_the_health_path_is(preset, url, path):
    assert health_path(parse_target(url, PRESETS[preset]), PRESETS[preset]) == path
