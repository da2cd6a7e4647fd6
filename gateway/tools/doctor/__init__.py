"""``portunus doctor``: tries a signaling server step by step, and names cause and remedy of what fails."""
