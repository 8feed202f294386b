"""The model's reasons at the coordinator: looked at on public texts after every aggregation, and judged."""
