"""What the coordinator and the hospitals agree on: words, shapes, formulas and the wire."""
