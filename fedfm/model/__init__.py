"""The model that travels: a frozen backbone, a small adapter and a head."""
