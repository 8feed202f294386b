"""How the updates of the sites become one."""
