"""Between the nodes: the ports (`base`), one engine per sibling (`memory`, `redis`)."""
