"""The smallest context of a study's models, from their configurations; documents are cut to fit into it."""

import json
from pathlib import Path
from unittest import mock

import pytest

from poise.plan.build import plan
from poise.plan.contexts import smallest_context
from poise.plan.read import load_study
from poise.tasks.build import get_task
from poise.tasks.translation import WINDOW_LINES

ZH, EN = "今天很冷，我们去河边看看，他有三本书。", "It is cold today, we go to the river, he has three books."


def model(folder: Path, **config: object) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_what_configurations_say(tmp_path: Path) -> None:
    llama = model(tmp_path / "llama", max_position_embeddings=4096)
    gpt2 = model(tmp_path / "gpt2", n_positions=1024)
    nested = model(tmp_path / "nested", text_config={"max_position_embeddings": 512})
    odd = model(tmp_path / "odd", max_position_embeddings="many")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "genai_config.json").write_text('{"model": {"context_length": 2048}}')
    assert smallest_context([("hf", llama, None), ("hf", gpt2, None)]) == 1024
    assert smallest_context([("hf", nested, None), ("onnx", str(tmp_path / "onnx"), None)]) == 512
    assert smallest_context([("onnx", str(tmp_path / "onnx"), None), ("api", "gpt-4", None)]) == 2048
    assert smallest_context([("hf", odd, None), ("hf", str(broken), None), ("api", "gpt-4", None)]) is None


def windows(tmp_path: Path, models: list[str], **options: object) -> list[tuple[int, int, int]]:
    """(lines, characters, tokens of the answer) of every window."""
    (tmp_path / "a.zh").write_text(f"{ZH}\n" * 60, encoding="utf-8")
    (tmp_path / "b.en").write_text(f"{EN}\n" * 60, encoding="utf-8")
    task = {
        "task": "translation",
        "data": [str(tmp_path / "a.zh"), str(tmp_path / "b.en")],
        "options": {"unit": "document", **options},
    }
    made = plan(load_study({"models": models, "deployments": ["onnx"], "tasks": [task]}, name="t"))
    (items,) = made.items.values()
    asked = {r.sample_id: r for r in items.requests}
    return [(s.fields[WINDOW_LINES], len(s.fields["text"]), asked[s.id].max_tokens) for s in items.samples]


def test_windows_fit_the_smallest_model(tmp_path: Path) -> None:
    made = windows(tmp_path, ["bundled:xs", "bundled:s"])  # contexts of 1024 tokens
    # every character of this text is three bytes, of which even a tokenizer that knows none makes one token each
    assert all(3 * chars + 6 * lines + 60 + room <= 1024 for lines, chars, room in made)
    assert sum(lines for lines, *_ in made) == 60 and max(lines for lines, *_ in made) > 1


@pytest.mark.parametrize("options", [{"lines": 20}, {"chars": 1500}])
def test_a_size_that_is_asked_for_is_kept(tmp_path: Path, options: dict[str, int]) -> None:
    assert max(lines for lines, *_ in windows(tmp_path, ["bundled:xs"], **options)) == 20


def test_a_hub_is_not_asked_for_what_nobody_needs() -> None:
    task = get_task("translation")
    asked = mock.Mock(return_value=1024)
    for options in ({}, {"unit": "sentence"}, {"unit": "document", "chars": 900}):
        assert task.fit(options, asked) == options
    assert not asked.called
    assert task.fit({"unit": "document"}, lambda: None) == {"unit": "document"}
