"""How much each site counts when the coordinator combines their updates."""
