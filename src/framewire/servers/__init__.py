"""Servers that people run as they are, and their clients, written with public names only."""
