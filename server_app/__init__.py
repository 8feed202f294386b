"""The coordinator: selection, screening, weighting, aggregation, evaluation, report."""
