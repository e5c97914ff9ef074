"""What ``framewire bench`` does: measure the framewire that is installed beside what people would use instead.

It needs nothing but the package: no compiler, no other library. Whichever peers are installed run, too.

- `workloads`: seeded payloads, in the framing of everybody who runs on them
- `decoding`, `encoding`, `echoing`: who runs, each in a few lines; `libraries` knows which of them are here
- `contest`: who runs on a workload, and what must come of it; `measure`: rounds of all of them in turn
- `results`: medians and quartiles, and their JSON; `setting`: what they depend on
- `table`, `comparison`, `plot`, `progress`: what people see
"""
