"""What makes the fixtures anew: real peers, each asked for the descriptions that it writes."""
