//! Laying out a conversation as text: `llama_chat_apply_template`.
