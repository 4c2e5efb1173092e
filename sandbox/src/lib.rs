//! okID portal stand-in.
