"""Controls: methods whose maps hold no information on the model, only a prior on the data, or all there is to know.

They go through the same code as every method; they never get a card of their own.
"""
