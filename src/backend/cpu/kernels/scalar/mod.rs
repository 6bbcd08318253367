//! Plain loops: the reference of every other kernel, and what runs on a machine without AVX2.
