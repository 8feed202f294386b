"""Settings: what a study and a site may say, checked and composed."""
