"""What the reported quantities mean, in one sentence each, and in which table of the report each stands."""

from __future__ import annotations

QUALITY, TIMES, RATES, LOAD = "Quality", "Times", "Throughput", "Load and client"
COSTS, SCENARIOS = "Memory, processor, start, cost", "MLPerf-like scenarios"
SECTIONS = (QUALITY, TIMES, RATES, LOAD, SCENARIOS, COSTS)
_MARKS = ("balanced", "quality_mark", "speed_mark", "half_and_half")

_BASES = {
    TIMES: (
        "e2e_s", "ttft_s", "ttfvt_s", "tpot_s", "chunk_gap_s", "stall", "wait_s", "response_s", "batch_s",
        "amortized_s", "right_e2e_s", "wrong_e2e_s", "wrong_over_right",
    ),
    RATES: (
        "system_tok_s", "request_tok_s", "decode_tok_s", "chars_s", "ref_tok_s", "requests_s", "goodput_rps",
        "correct_goodput_rps", "output_tokens",
    ),
    LOAD: (
        "load_delivered", "delivered_concurrency", "in_flight", "asked_rps", "delivered_rps", "failed", "dropped",
        "loop_lag_s", "client_cpu", "client_mem_bytes",
    ),
    SCENARIOS: (
        "mlperf_latency_s", "mlperf_samples_s", "mlperf_tok_s", "mlperf_ttft_s", "mlperf_tpot_s", "mlperf_ttfvt_s",
        "mlperf_e2e_s", "mlperf_wait_s", "mlperf_response_s", "mlperf_share",
    ),
    COSTS: (
        "mem_bytes", "cpu_util", "gpu_mem_bytes", "gpu_util", "power_w", "energy_j", "load_s", "cold_s", "task_s",
    ),
}  # fmt: skip

GLOSSARY = {
    "quality": "Mean mark of the answers, 0 to 1: right or wrong, or the metric's scale. A failed request counts as 0.",
    "quality mark Q": "Quality with guessing removed: (mean − chance)/(1 − chance), at least 0.",
    "speed mark S": "Mean of τ/(τ + t) over the requests: 1 = instant, ½ at the task's reference time τ, 0 = never.",
    "balanced": "100·√(Q·S): raising either mark by a given percentage raises it equally, so neither counts more.",
    "τ": "Reference time of a task: first token allowance + allowance per token × length of the reference answer.",
    "frontier": "The systems that no other is better than in quality and as good in speed (or the reverse).",
    "on the frontier": "Share of bootstrap resamples of the items in which the system is on the frontier.",
    "ttft_s": "Time to first token: from sending to the first text of any kind.",
    "ttfvt_s": "Time to the first visible text, reasoning left out.",
    "tpot_s": "Time per output token after the first: (last text − first text)/(tokens − 1).",
    "chunk_gap_s": "Every gap between successive chunks of text; a chunk is not always one token.",
    "stall": "Gaps of over ten times the median gap, at least 0.1 s; share: of the answers that have one.",
    "e2e_s": "From sending to the last text of the answer.",
    "wait_s": "Open loop: how late the request was sent after it was due.",
    "response_s": "Open loop: from when the request was due to its last text; what a user feels.",
    "right_e2e_s, wrong_e2e_s": "`e2e_s` of right and of wrong answers; wrong_over_right: the ratio of their means.",
    "deadline_accuracy": "Share of items that are right and no later than the study's end-to-end limit.",
    "load_delivered": "The part of the load asked that came about: requests in flight, or sent per second.",
    "loop_lag_s": "How late the client's own event loop was, by the worst moment of each second.",
    "amortized_s": "Static batch: time of the whole batch divided by its size; not a latency.",
    "system_tok_s": "All output tokens divided by the wall time of the measured window.",
    "request_tok_s": "Output tokens of one request divided by its own end-to-end time.",
    "decode_tok_s": "1 / time per output token.",
    "mlperf_…": "A scenario's result by MLPerf's early stopping; share: of a reference's quality or answer length.",
    "cpu_util": "Processor seconds of the engine's processes per second, in cores.",
    "mem_bytes": "Memory of the engine's processes.",
    "p50, p90, p99": "The time that 50, 90, 99 % of the requests did not exceed; a timeout counts as +∞.",
    "interval": "95 % unless stated; the method stands with each number in the JSON and CSV.",
    "–": "Not measurable here, with the reason in a footnote. It never means 0.",
}


def section(name: str) -> str | None:
    """The table in which an estimate stands: its quantity's, else `Quality`; None for marks shown elsewhere."""
    base = name.partition(".")[0]
    if base in _MARKS:
        return None
    if "usd" in base.split("_"):
        return COSTS
    return next((title for title, bases in _BASES.items() if base in bases), QUALITY)


def place(name: str) -> int:
    """Where an estimate stands in its table: in the order of the quantities above; quality metrics keep their order."""
    base = name.partition(".")[0]
    order = [b for bases in _BASES.values() for b in bases]
    return order.index(base) if base in order else len(order)
