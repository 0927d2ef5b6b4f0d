//! Hosts as network namespaces, an underlay between them, guests in three sizes
