//! stub
pub fn init() {}
