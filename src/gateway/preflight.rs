//! The answer to a browser that asks before it sends.

use http::{Method, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::{Life, Listener};
use crate::cors;
use crate::reject;
use crate::request::X_REQUEST_ID_NAME;

/// 204 whatever is allowed: it is no refusal, and a browser reads the fields, not the status, to learn why it may not.
/// The service never sees it.
pub(super) async fn answer(
    listener: &Listener<'_>,
    session: &mut Session,
    life: &Life,
    asked: &Method,
) -> Result<()> {
    reject::keep_alive_if_possible(session);
    let mut head = ResponseHeader::build_no_case(StatusCode::NO_CONTENT, Some(8))?;
    head.insert_header(X_REQUEST_ID_NAME, life.request_id.value().clone())?;
    let route = life.route.map(|id| listener.gateway.plan.route(id));
    if let Some(cors) = route.and_then(|route| route.cors.as_ref()) {
        let headers = &session.req_header().headers;
        for (name, value) in cors::preflight(cors, asked, headers) {
            head.append_header(name, value)?;
        }
    }
    session.write_response_header(Box::new(head), true).await
}
