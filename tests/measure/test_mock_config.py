"""The mock's flags: one for every setting, each explained, a wrong value refused by the flag's name."""

import msgspec
import pytest

from poise.measure.mock_config import MockConfig, from_flags

SETTINGS = [f.name for f in msgspec.structs.fields(MockConfig)]


def test_help_explains_every_setting_and_names_its_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        from_flags(["--help"])
    lines = [line.split(None, 2) for line in capsys.readouterr().out.splitlines() if line.startswith("  --")]
    told = {flag: text for flag, _value, text in lines}
    assert end.value.code == 0
    assert list(told) == ["--host", "--port"] + [f"--{s.removesuffix('_s').replace('_', '-')}" for s in SETTINGS]
    assert all("Default: " in text and len(text) > len("Default: x. ") for text in told.values())
    assert "Default: 0.4." in told["--stall"] and "Default: true." in told["--done"]


def test_flags_make_the_configuration():
    words = "--ttft .5 --stall-s 1 --faults 429,reset --capacity 3 --done false --truth t --port 8000".split()
    config, host, port = from_flags(words)
    assert config == MockConfig(ttft_s=0.5, stall_s=1.0, faults=("429", "reset"), capacity=3, done=False, truth="t")
    assert (host, port) == ("127.0.0.1", 8000)
    assert from_flags([])[0] == MockConfig()


@pytest.mark.parametrize(
    "words",
    ["--tokens many", "--tokens -1", "--ttft -1", "--jitter 1.5", "--tokens-per-chunk 0", "--usage never", "--done 7"],
)
def test_a_value_that_does_not_fit_is_refused_by_its_flag(words, capsys):
    flag, value = words.split()
    with pytest.raises(SystemExit) as end:
        from_flags([flag, value])
    said = capsys.readouterr().err
    assert end.value.code == 2 and flag in said and f"'{value}' does not fit" in said
