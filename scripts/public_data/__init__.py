"""Public data sets, fetched from their homes or from a folder, and written as one folder per site."""
