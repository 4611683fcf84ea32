"""Parity with Hugging Face transformers: the same checkpoint and inputs must give the same numbers and tokens."""
