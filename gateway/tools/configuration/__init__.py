"""``portunus config``: the commands that show, check and write configurations."""
