"""Labelled texts from tables with and without a header, and with labels in a second file."""

import pytest

from poise.tasks.build import get_task
from poise.types import UsageError


def samples(data, **options):
    return list(get_task("classification").samples(data, options))


def test_a_table_without_header_has_numbered_columns(tmp_path):
    (tmp_path / "test.csv").write_text('"3","Prices rise","They rose, again."\n"4","A rocket","It flew."\n')
    first, second = samples(str(tmp_path / "test.csv"), label=1, text="2,3", labels={3: "business", 4: "technology"})
    assert (first.fields["text"], first.target) == ("Prices rise\nThey rose, again.", "business")
    assert second.target == "technology"
    with pytest.raises(UsageError, match=r"has no column '5'; it has '1', '2', '3': name its columns with -T text=…"):
        samples(str(tmp_path / "test.csv"), label=1, text=5)
    with pytest.raises(UsageError, match=r"has no column 'text'; it has '3', 'Prices rise', .* where it has no header"):
        samples(str(tmp_path / "test.csv"))


def test_labels_in_a_file_of_their_own(tmp_path):
    (tmp_path / "test_text.txt").write_text("Lovely rain\t #not \nNice day")
    (tmp_path / "test_labels.txt").write_text("1\n0\n")
    (tmp_path / "mapping.txt").write_text("0\tnon_irony\n1\tirony")
    files = [str(tmp_path / "test_text.txt"), str(tmp_path / "test_labels.txt")]
    assert [(s.fields["text"], s.target) for s in samples(files, labels=str(tmp_path / "mapping.txt"))] == [
        ("Lovely rain\t #not", "irony"), ("Nice day", "non_irony"),
    ]  # fmt: skip
    (tmp_path / "test_labels.txt").write_text("1\n0\n1\n")
    with pytest.raises(UsageError, match="a line for each row is needed, but to 2 rows there are more labels"):
        samples(files)
