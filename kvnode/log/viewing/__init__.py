"""Looking at a log from outside: read-only, without the lock, live or stopped, past damage, in bounded memory.

listing.py    what there is at one moment; strangers.py what a directory is that is no log
reader.py     its records in order, and what is wrong between them; places.py how far back a cut went
follow.py     what becomes durable, as it does
compare.py    where two logs part
"""
