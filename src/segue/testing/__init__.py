"""For tests of Segue and of what is built on it: fakes of the ports, batteries that any port must pass.

Nothing outside tests imports it. The batteries need Hypothesis and pytest, which an installed Segue does
not bring.
"""
