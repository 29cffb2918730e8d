"""Copies a model folder of the bundled kind, with a chat template that writes what the model was trained on.

    python training/chat_template.py src/poise/bundled/xs build/xs-chat

For the chat endpoints of servers: the bundled models are asked without a template, a line a question and one an answer.
"""

import shutil
import sys
from pathlib import Path

TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == "assistant" %} {{ message.content | trim }}
{% else -%}
{{ message.content }}
Answer:
{%- endif -%}
{%- endfor -%}
"""


def with_chat_template(folder: Path, target: Path) -> None:
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("onnx"))
    (target / "chat_template.jinja").write_text(TEMPLATE)


if __name__ == "__main__":
    with_chat_template(Path(sys.argv[1]), Path(sys.argv[2]))
