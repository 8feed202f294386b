"""The model's reasons at the hospital: looked at before an update leaves, judged, kept and shown to its staff."""
