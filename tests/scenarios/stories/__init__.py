"""Stories: what an account lives through where its feeds meet, with figures computed by hand.

Tables (``*.txt``) tell one story in each section; modules combine many variations of one. Each
runs on the engine in virtual time. The figures follow from the contract, not from the code.
"""
