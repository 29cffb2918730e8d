"""Texts for perplexity: WikiText's own file names, and rows that hold a text."""

import pytest

from poise.tasks.build import get_task
from poise.types import UsageError


def samples(source, **options):
    return list(get_task("perplexity").samples(str(source), options))


def test_wikitext_by_its_own_names(tmp_path):
    (tmp_path / "wiki.test.raw").write_text(" \n = A town = \n \n It is old . \n = A hill = \n \n It is high . \n")
    first, second = samples(tmp_path)
    assert [s.id for s in (first, second)] == ["wiki.test.raw/0", "wiki.test.raw/1"]
    assert first.fields["text"].split() == ["=", "A", "town", "=", "It", "is", "old", "."]
    assert [s.id for s in samples(tmp_path / "wiki.test.raw", split="file")] == ["wiki.test.raw/0"]


def test_of_rows_the_text_is_scored_and_not_the_row(tmp_path):
    (tmp_path / "c4.jsonl").write_text('{"text": "It is old.", "url": "x"}\n{"text": "It is high.", "url": "y"}\n')
    assert [s.fields["text"] for s in samples(tmp_path / "c4.jsonl")] == ["It is old.", "It is high."]
    with pytest.raises(UsageError, match="each row is a document; split is for text files"):
        samples(tmp_path / "c4.jsonl", split="line")
    (tmp_path / "c4.jsonl").write_text('{"body": "It is old."}\n')
    with pytest.raises(UsageError, match="has no column 'text'; it has 'body'"):
        samples(tmp_path / "c4.jsonl")
    with pytest.raises(UsageError, match="perplexity reads files, not the hub"):
        samples("hub:Salesforce/wikitext/wikitext-2-raw-v1:test")
