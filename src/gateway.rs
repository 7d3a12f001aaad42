//! Assembly: start in order, stop in reverse.
