"""Seconds of each crate in a timed build: python3 timings.py target/cargo-timings/cargo-timing.html"""

import collections
import json
import re
import sys

text = open(sys.argv[1]).read()
units = json.loads(re.search(r"UNIT_DATA = (\[.*?\]);", text, re.S).group(1))
seconds = collections.Counter()
for unit in units:
    seconds[unit["name"]] += unit["duration"]
print(f"{len(units)} units, {sum(seconds.values()):.0f} s of compilers together, two at a time")
for name, value in seconds.most_common(30):
    print(f"{value:7.1f} {name}")
