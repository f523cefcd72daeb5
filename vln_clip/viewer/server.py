"""The live server of ``vln_clip.visualize --serve``: pick a start, type an instruction, watch the agent decide.

It keeps nothing between requests: a request names start, instruction and the actions that somebody chose, and the
answer is the walk. Bound to this machine alone; who may ask is ``guard``'s matter, what may be asked ``requests``'s.
"""
