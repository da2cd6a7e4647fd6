"""Recording of fixtures: real peers that make the descriptions."""
