"""What kvnode costs, beside others with the same durability, measured in one run on one machine: `make bench`.

__main__.py   what is run and what is kept of it
load/         the load generator, in C
systems/      kvnode and its peers, as processes
cases/        what is measured, one module for each part of the page
proof.py      that the writes which were acknowledged meanwhile are in the logs of a majority
results.py    what was measured, in a file, and how it becomes one figure
goals.py      the goals, and what they are compared with
page.py       docs/BENCHMARKS.md: tables and pictures out of results
"""
