"""What is found of the baseline and its images alone, before a trial has run."""

from tune_app.findings.findings import Finding
from tune_app.findings.memorized import memorized_finding
from tune_app.findings.unbalanced import unbalanced_finding
from tune_app.ledger.baseline import BaselineInfo


def findings_of_baseline(baseline: BaselineInfo) -> list[Finding]:
    """Returns what should be known before a search begins."""
    found = memorized_finding(baseline), unbalanced_finding(baseline)
    return [finding for finding in found if finding is not None]
