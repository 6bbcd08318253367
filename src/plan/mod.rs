//! The step types, and the builder that architectures write into.
