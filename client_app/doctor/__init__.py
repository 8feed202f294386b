"""``fedfm-site doctor``: what a hospital's IT should see to before it takes part, by group of checks."""
