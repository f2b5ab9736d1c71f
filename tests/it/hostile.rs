//! What no two servers may read differently: tables of raw bytes, sent to a gateway with a strict recording upstream.
//! A row says what the caller gets; that nothing unclean and nothing refused reached the upstream is the driver's to
//! check, for every row.

mod conduct;
mod deadlines;
mod floods;
mod http1;
mod http2;
mod loosened;
