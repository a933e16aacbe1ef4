"""What scripts/bench is made of.

  plan       the parts, their steps in order, progress, results saved after each step
  machine    cores, commands, what the machine is
  build      the binaries
  processes  servers of ours: started, watched, asked what they have cost
  servers    which ones a run has, with which policies
  asking     what is asked (a Case), and one run of it
  pairs      alternating pairs of runs, medians, spreads
  axes       CPU, times and store calls on every axis, and the script alone
  store      bytes for each key, the longest sweep
  reload     times while 100,000 rules are read again, and how long until they are in force
  cores      what each serving core gets from 1, 2, 4 and 16 connections
  keys       a flood of distinct keys: memory, a limited key, other keys' times
  batch      sizes of a call to Redis
  budgets    what the design allows, and the verdicts
  report     tables for people
  draw       curves

How it measures. Servers are pinned to the first core; `tollgate load` asks from the last one, where
this program runs as well, and Redis too unless there are more than two. Each figure of a server is
measured right before or after the same figure of the do-nothing service (benches/noop.rs), and a ratio is the median of the
pairs' ratios; its spread is half the distance between their quartiles. CPU is what the kernel charges
all threads of a process (user + system, /proc/PID/task/*/schedstat, in nanoseconds). Nothing asks a
server for its metrics between the two looks at its CPU. Absolute times differ between machines and
days; ratios less so.
"""
