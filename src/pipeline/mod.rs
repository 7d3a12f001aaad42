//! The fate of each frame, decided by pure functions, then the edit; `encap` and `decap` read as mirror images.
