//! Frames by name: builders, actors and vectors that every test shares
