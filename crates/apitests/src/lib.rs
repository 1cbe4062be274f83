//! apitests
