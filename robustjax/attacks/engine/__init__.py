"""How the steps of an attack are run: loops, chunks, refilled batches, and what a network is asked.

Nothing here is public, and no attack is here: those are one a file in `attacks`.
"""
