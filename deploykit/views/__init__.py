"""How each stage's result becomes a report: one file per result, one function ``report(result) -> Report``."""
