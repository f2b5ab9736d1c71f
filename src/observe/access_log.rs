//! stub
use std::time::Duration;
pub struct AccessRecord<'a> {
    pub unix_millis: u64,
    pub request_id: &'a str,
    pub trace_id: &'a str,
    pub route: Option<&'a str>,
    pub method: &'a str,
    pub path: Option<&'a str>,
    pub status: u16,
    pub reason: Option<&'a str>,
    pub client: Option<&'a str>,
    pub issuer: Option<&'a str>,
    pub proof: Option<&'a str>,
    pub upstream: Option<&'a str>,
    pub peer: Option<&'a str>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration: Duration,
    pub upstream_duration: Option<Duration>,
}
pub struct AccessLog;
impl AccessLog {
    pub fn new(_e: bool, _w: Box<dyn std::io::Write + Send>) -> Self {
        AccessLog
    }
    pub fn write<'a>(&self, _r: impl FnOnce() -> AccessRecord<'a>) {}
    pub fn close(&self) {}
}
