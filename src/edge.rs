//! stub
use crate::gateway::{Gateway, Listener};
use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use pingora_proxy::{HttpProxy, Session};
use std::sync::Arc;
use std::time::Duration;
pub struct GuardApp {
    inner: Arc<HttpProxy<Listener>>,
}
impl GuardApp {
    pub fn new(inner: HttpProxy<Listener>, _g: &Arc<Gateway>, _i: usize) -> Self {
        GuardApp {
            inner: Arc::new(inner),
        }
    }
}
#[async_trait]
impl ServerApp for GuardApp {
    async fn process_new(self: &Arc<Self>, s: Stream, w: &ShutdownWatch) -> Option<Stream> {
        self.inner.process_new(s, w).await
    }
    async fn cleanup(&self) {
        self.inner.cleanup().await
    }
}
pub fn head_read(_s: &Session) {}
pub fn request_done(_s: &Session) {}
#[derive(Debug)]
pub struct BodyRate;
#[derive(Debug)]
pub struct TooSlow;
impl BodyRate {
    pub fn new(_r: u64) -> Self {
        BodyRate
    }
    pub fn feed(&mut self, _n: Duration, _b: usize) -> Result<(), TooSlow> {
        Ok(())
    }
}
