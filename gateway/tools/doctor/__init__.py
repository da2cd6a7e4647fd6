"""``portunus doctor``: tests a signaling server step by step, and names the cause and remedy of each failure."""
