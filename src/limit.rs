//! stub
use crate::config::plan::{IssuerId, Plan, RouteId};
use std::net::IpAddr;
use std::time::Duration;
pub struct Limiters;
pub struct RateKey;
pub struct RetryAfter;
impl RetryAfter {
    pub fn seconds(&self) -> u32 {
        1
    }
}
impl RateKey {
    pub fn client(_i: IssuerId, _c: &str) -> Self {
        RateKey
    }
    pub fn source(_a: Option<IpAddr>) -> Self {
        RateKey
    }
}
impl Limiters {
    pub fn new(_p: &Plan) -> Self {
        Limiters
    }
    pub fn check(&self, _r: RouteId, _k: &RateKey, _n: Duration) -> Result<(), RetryAfter> {
        Ok(())
    }
}
