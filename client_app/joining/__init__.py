"""How a hospital joins: its table is looked at, its person is asked, its folder is written. Needs no torch."""
