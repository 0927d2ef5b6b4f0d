//! One promise a file: the real binaries in the lab
