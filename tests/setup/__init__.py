"""Set-up of the environment that Portunus runs and is tested in."""
