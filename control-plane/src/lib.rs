//! A real control plane.
