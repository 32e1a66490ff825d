"""gRPC: servers, channels, error mapping, and the codecs between messages and values.

Only this package and the tiers' servicers touch protobuf messages.
"""
