"""Why the model decides: attributions and whether they can be trusted."""
