//! Hyper-parameters, weights, one short file per architecture.
