"""The stock tools, in an environment of their own."""
