"""Commands of ``fedfm-study`` about who takes part; the others stand in ``server_app.cli``."""
