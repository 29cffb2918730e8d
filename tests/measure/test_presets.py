"""docs/servers.md says what the code does."""

from pathlib import Path

from poise.measure.presets import PRESETS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "servers.md"


def test_the_documented_table_is_the_presets():
    text = DOCS.read_text().split("## Presets")[1].split("\n\n")[1]
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    assert [row[0].strip("`") for row in rows] == list(PRESETS)
    for name, paths, health, usage, echo, exact, basis in rows:
        preset = PRESETS[name.strip("`")]
        assert ("completions" in paths.split(", ")) == (preset.completions is not None)
        assert health.strip("`") == (preset.health or "–")
        assert {"option": "asked for", "always": "always", "none": "never"}[preset.usage] in usage
        assert ("echo" in echo) == preset.echo_logprobs
        assert [f.strip("`") for f in exact.split(", ")] == [
            f for f in (preset.min_tokens, preset.ignore_eos) if f
        ] or (exact == "no" and not preset.exact_length)
        assert preset.name == "generic" or ("run" in basis) == (preset.basis == "run")
