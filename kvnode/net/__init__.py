"""Bytes in, commands and messages out, for the two ports of a node. No sockets, no clock, no knowledge of commands.

requests.py  what clients send: RESP arrays and inline commands
inline.py    the words of an inline command
replies.py   what clients get: RESP2 and RESP3
frames.py    what nodes send each other: length-prefixed msgpack
"""
