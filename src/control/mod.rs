//! What the kernel knows, mirrored: devices, FDB, routes and neighbours, and the single writer of the table. Never sees a frame.
