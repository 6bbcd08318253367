//! GGUF files: bytes ⇄ typed values, memory maps, splits, writer.
