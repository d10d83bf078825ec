"""Crashes on purpose: a real node is killed at every step of its journal, and at random times, and must arrive.

`points` says where a node can be killed, from the steps of a journal; `life` is an agent that kills there, and `lives`
starts such agents cheaply, by a fork server; `processes` finds whom to kill. `store` is the system that is upgraded,
and `callers` are its clients. `ways` are the ways through the journey that are crashed on; `plans` says what happens
on one and what came of it, `trial` is one node that goes it, and `trials` many. `system_calls` and `disk` say what a
power cut would leave, which no kill shows.

Nothing here is for production, and the product knows nothing of it: `Executor.run` and `Journal.append` are wrapped.
"""
