//! What other crates may call: building the kernel object.
