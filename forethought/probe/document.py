"""A probe as one JSON document."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TextIO

from forethought.probe.report import Report
from forethought.probe.verdict import PrefixTest


def write_probe(out: TextIO, report: Report, settings: Mapping[str, Any]) -> None:
    """Verdict, how it was asked for, and all tests. Frequencies, shares and biases are from 0 to 1;
    a bias is a total variation."""
    judgement = report.judgement
    document = {
        "verdict": judgement.verdict.value,
        "reason": judgement.reason,
        "settings": dict(settings),
        "speculation": asdict(report.speculation),
        "alpha_per_test": judgement.alpha_per_test,
        "detectable_bias": [asdict(sensitivity) for sensitivity in judgement.sensitivities],
        "deviations": [asdict(deviation) for deviation in report.deviations],
        "tests": [_test_as_json(test) for test in judgement.tests],
    }
    json.dump(document, out, indent=2, ensure_ascii=False)
    out.write("\n")


def _test_as_json(test: PrefixTest) -> dict[str, Any]:
    return {
        "prompt": test.prompt,
        "num_tokens": test.num_tokens,
        "df": test.comparison.df,
        "pooled_share": test.comparison.pooled_share,
        "p_value": test.p_value,
        "detectable_bias": test.detectable_bias,
        "says_nothing_because": None if test.obstacle is None else test.obstacle.value,
    }
