"""Recording of fixtures: the real peers whose offers and answers are recorded."""
