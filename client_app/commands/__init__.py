"""The commands of ``fedfm-site``, by what they are about."""
