"""A page to chat with, which shows the three steps of each round.

It is a client of the API like any other: `static` has all of it, and nothing builds it.
"""
