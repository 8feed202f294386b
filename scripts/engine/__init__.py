"""A whole federation on one machine, through the real Flower engine."""
