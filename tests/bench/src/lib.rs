//! Figures: this data plane beside its peers
