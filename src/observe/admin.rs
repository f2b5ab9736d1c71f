//! stub
use crate::gateway::Gateway;
use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use std::sync::Arc;
pub struct AdminApp;
impl AdminApp {
    pub fn new(_g: Arc<Gateway>) -> Self {
        AdminApp
    }
}
#[async_trait]
impl ServerApp for AdminApp {
    async fn process_new(self: &Arc<Self>, _s: Stream, _w: &ShutdownWatch) -> Option<Stream> {
        None
    }
}
