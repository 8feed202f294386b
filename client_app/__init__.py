"""The hospital: data, training, privacy, checks."""
