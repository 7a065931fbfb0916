"""The straight way from a gateway to an engine on the same host: a socket instead of two event loops and a scheduler.

Ray Serve's handles carry every request through the cluster's object protocol; that is safe everywhere and costs about a
millisecond each way. Where gateway and engine can reach each other by a plain socket, requests travel in frames over
kept connections. Address and secret are handed over by a handle call, so the cluster's authentication guards both.
"""
