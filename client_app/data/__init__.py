"""Reading a hospital's data into examples."""
