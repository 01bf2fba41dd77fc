//! Published measurements.
