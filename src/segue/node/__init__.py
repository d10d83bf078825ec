"""What runs on each node: the agent, and the application's process beside it.

`agent` is the loop (an event, `advance`, commands); `execute` runs a command and returns one event;
`journal` and `folders` are what is on disk; `hosts` is the agent's view of the application's processes.
`host` is the application's process itself: it joins release and layer, and stays small, since it is a
guest in somebody's program; `control` and `plan` are what the two sides share. `listening` is what a process
listens on, `handover` and `unix_sockets` are how that passes between processes, and `vacancy` says whether it
is to be had. Deciding belongs to `segue.journey`, and talking HTTP to `segue.wire`.
"""
