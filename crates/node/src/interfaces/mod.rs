//! What others speak to a node: bytes in, bytes out. What a request means is in `requests`.

pub(crate) mod http;
pub(crate) mod native;
