"""Code whose tests cannot be run here is refused before anything is asked: every answer would be wrong."""

import json

import pytest

from poise.tasks.build import get_task
from poise.types import UsageError

ROW = {"task_id": "T/0", "prompt": "def one():\n", "entry_point": "one", "canonical_solution": "    return 1\n",
       "test": "import math\n\ndef check(candidate):\n    assert candidate() == math.floor(1.5)\n"}  # fmt: skip


def samples(path, task, row):
    path.write_text(json.dumps(row) + "\n")
    return list(get_task(task).samples(str(path), {}))


def test_tests_may_import_what_is_pythons(tmp_path):
    assert len(samples(tmp_path / "x.jsonl", "humaneval", ROW)) == 1
    with pytest.raises(UsageError, match="the tests of 'T/0' import numpy; the sandbox has Python's own modules only"):
        samples(tmp_path / "x.jsonl", "humaneval", ROW | {"test": "import numpy as np\n" + ROW["test"]})
    row = {"task_id": 1, "text": "one", "code": "def one(): return 1", "test_list": ["assert one() == 1"]}
    assert len(samples(tmp_path / "x.jsonl", "mbpp", row | {"test_imports": ["import math"]})) == 1
    with pytest.raises(UsageError, match="the tests of 1 import numpy"):
        samples(tmp_path / "x.jsonl", "mbpp", row | {"test_imports": ["import numpy as np"]})


@pytest.mark.parametrize("task", ["humaneval", "mbpp"])
def test_evalplus_has_inputs_where_tests_belong(tmp_path, task):
    row = {k: v for k, v in ROW.items() if k != "test"} | {"base_input": [[1]], "plus_input": [[2]], "contract": ""}
    with pytest.raises(UsageError, match="EvalPlus's own file, which has inputs where tests belong"):
        samples(tmp_path / "x.jsonl", task, row)
