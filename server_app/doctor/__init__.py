"""``fedfm-study doctor``: what a coordinator should see to before hospitals join or a study runs."""
