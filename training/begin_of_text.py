"""Copies a model folder of the bundled kind, with its end-of-text token set before every prompt.

    python training/begin_of_text.py src/poise/bundled/xs build/xs-begin

That token stood between the texts that the model was trained on. Some servers score prompts only behind such a token.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

EOS = "<eos>"


def with_begin_of_text(folder: Path, target: Path) -> None:
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("onnx"))
    begin = {"SpecialToken": {"id": EOS, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    template = {
        "type": "TemplateProcessing",
        "single": [begin, first],
        "pair": [begin, first, second],
        "special_tokens": {EOS: {"id": EOS, "ids": [0], "tokens": [EOS]}},
    }
    _change(target / "config.json", bos_token_id=0)
    _change(target / "tokenizer.json", post_processor=template)
    _change(target / "tokenizer_config.json", bos_token=EOS)


def _change(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


if __name__ == "__main__":
    with_begin_of_text(Path(sys.argv[1]), Path(sys.argv[2]))
