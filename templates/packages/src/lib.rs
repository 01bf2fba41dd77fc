//! No code: the manifest lists what candidates are built from, so that cargo fetches it with the program.
