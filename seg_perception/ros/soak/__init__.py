"""The soak: a node under everything that can happen to it, again and again, kept to account."""
