"""What start and healing do about damage: it is surveyed, told from what a crash leaves behind, and written anew.

survey.py    everything that is wrong with a directory: runs.py what can be read of a file, picture.py what that is
damaged.py   a stopped log with holes, closed one by one: filling.py what belongs in, filler.py and draft.py writing
mend.py      what a node that may have lost something gives up before it is brought up to date by a leader
reread.py    an open log read again: lookup.py, rewriting.py and fresh.py write what was bad in it anew
"""
