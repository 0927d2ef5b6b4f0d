//! Every frame vector on the host and in the kernel
