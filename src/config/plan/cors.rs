//! What a route tells browsers about requests from other origins.

use http::{HeaderValue, Method};

/// The values are spelled once, here, and not for each answer.
#[derive(Debug, Clone)]
pub struct CorsPlan {
    pub origins: Origins,
    /// Empty is any. `GET` brings `HEAD` with it.
    pub methods: Vec<Method>,
    pub allow_methods: HeaderValue,
    /// `None`: no header that needs permission.
    pub allow_headers: Option<HeaderValue>,
    pub expose_headers: HeaderValue,
    /// `None`: the browser's own time.
    pub max_age: Option<HeaderValue>,
}

#[derive(Debug, Clone)]
pub enum Origins {
    Any,
    /// As browsers send them.
    Listed(Vec<HeaderValue>),
}
