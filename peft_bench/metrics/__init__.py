"""Metrics: pure functions of texts and numbers, one idea a file.

Nothing here reads a file or knows a model; tree-sitter and sacrebleu are imported when first
used. Import from the modules
(``from peft_bench.metrics.exact_match import em_at_k``); this package re-exports nothing, because
some functions share the name of their module.
"""
