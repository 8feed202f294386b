"""What developers run; nothing imports this package."""
