"""One rule a file; ``devplan.checks.table`` gives them their codes."""
