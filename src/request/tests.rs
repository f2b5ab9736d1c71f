#![allow(clippy::unwrap_used)]

mod framing;
mod host;
mod ids;
mod target;

use bytes::Bytes;
use http::{HeaderMap, Version};

use super::*;
use crate::reject::Rejection;
use crate::testkit::fields;

const HOST: &str = "api.example.com";
