"""API keys: who may call, on whose behalf, and how much.

    key_file   the file that holds them, hashed
    limits     requests and tokens a minute, and calls at a time

What checks them on a call is `forethought.rpc.calls.key_guard`.
"""
